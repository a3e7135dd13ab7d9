"""`python -m local [--once]`: start the stack, send it the examples, and serve until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import tritonclient.grpc as triton

from local import examples, formatting
from local.endpoints import COMPONENTS, from_environment, page_settings
from local.environments import cache_folder, ensure
from local.errors import LocalError
from local.notices import ControllerNotices
from local.stack import MODEL_REPOSITORY, SERVED_MODELS, LocalStack
from triptych.contract.verification.backends import LOCAL_BACKENDS

WATCH_S = 0.5
HINT_SERVED_MODELS = "that SERVED_MODELS=... names beside MODELS=..."
HINT_EDITS = "to take edits of published versions: EDITS=1 make run"


def main() -> int:
    """Run the stack. Returns 0 if it was stopped and all examples were answered, 1 if something failed."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the examples; non-zero if one failed")
    parser.add_argument("--examples", type=Path, default=examples.FILE, help="default: examples/data/examples.json")
    parser.add_argument(
        "--models", type=Path, help="model repository of your own, without the examples; default: model-repository"
    )
    parser.add_argument("--served-models", type=Path, help="folder of ServedModels for --models; default: none")
    parser.add_argument(
        "--edits", action="store_true", help="take edits of published versions: the stack starts anew after each"
    )
    parser.add_argument("--jobs", action="store_true", help="run the service of jobs too, and show one job")
    parser.add_argument("--logs", type=Path, help="folder for the logs; default: one in the cache")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends it like Ctrl-C
    try:
        return _run(given)
    except LocalError as error:
        print(f"local: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(given: argparse.Namespace) -> int:
    start = time.monotonic()
    endpoints = from_environment(os.environ)
    requests = [] if given.models else examples.read(given.examples)
    served_models = given.served_models or (None if given.models else _served_models())
    stack = LocalStack(
        endpoints,
        run_folder=given.logs or cache_folder() / f"run-{endpoints['preprocess'].port}",
        predictor_python=ensure("predictor"),
        model_repository=given.models or Path(os.environ.get("CONTROLLER_MODEL_REPOSITORY", MODEL_REPOSITORY)),
        served_models=served_models,
        variables={**page_settings(endpoints, os.environ), **causes_shown(os.environ)},
    )
    failed = 0
    stack.start(_print_ready)
    notices = ControllerNotices(stack.log("controller"), served_models or HINT_SERVED_MODELS)
    try:
        _print(f"stack ready after {time.monotonic() - start:.1f} s; logs in {stack.run_folder}")
        _print(f"Triton loads models of the backends {' and '.join(LOCAL_BACKENDS)}\n")
        _print_notices(notices)
        if requests:
            failed = _send_all(stack, requests)
        with _jobs(stack, shows_one=bool(requests)) if given.jobs else nullcontext():
            if not given.once:
                if stack.rest_url:
                    _print(f"REST on {stack.rest_url}")
                if stack.page_url:
                    _print(f"models, and a form to try them: {stack.page_url}")
                _serve(stack, notices, takes_edits=given.edits)
    finally:
        _stop(stack)
    return 1 if failed else 0


@contextmanager
def _jobs(stack: LocalStack, *, shows_one: bool) -> Iterator[None]:
    """The service of jobs beside the stack, after one job has ended."""
    from local.jobs import running_jobs, show_job  # with pyarrow, which takes a quarter of a second

    with running_jobs(stack.address("preprocess"), stack.run_folder) as process:
        _print_ready("jobs", process.address, process.uptime_s())
        if shows_one:
            show_job(process.address, _print)
        yield


def causes_shown(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings with which internal errors show their cause: caller and owner of one machine are the same person."""
    names = (f"{stage.upper()}_SHOW_INTERNAL_ERRORS" for stage in COMPONENTS if stage != "predictor")
    return {name: environment.get(name, "true") for name in names}


def _send_all(stack: LocalStack, requests: list[examples.ExampleRequest]) -> int:
    """Send every example. Returns how many failed."""
    failed = 0
    with triton.InferenceServerClient(stack.address("preprocess")) as client:
        for example in requests:
            _print(formatting.format_request(example))
            start = time.monotonic()
            try:
                _print(formatting.format_answer(examples.send(client, example), time.monotonic() - start))
            except examples.ExampleFailed as error:
                failed += 1
                _print(f"  -> failed: {error}")
                stack.check()
    _print(f"\n{len(requests) - failed} of {len(requests)} examples answered")
    return failed


def _served_models() -> Path:
    return Path(os.environ.get("CONTROLLER_SERVED_MODELS", SERVED_MODELS))


def _serve(stack: LocalStack, notices: ControllerNotices, *, takes_edits: bool) -> None:
    hinted = takes_edits
    try:
        _print(f"serving on {stack.address('preprocess')}; Ctrl-C stops")
        while True:
            stack.check()
            _print_notices(notices)
            if notices.edited and takes_edits:
                notices = _start_anew(stack, notices)
            elif notices.edited and not hinted:
                hinted = True
                _print(HINT_EDITS)
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        _print("")


def _start_anew(stack: LocalStack, notices: ControllerNotices) -> ControllerNotices:
    """Restart all parts, so that none remembers a version as it was. Returns the notices of the new controller."""
    _print("taking the edits: the stack starts anew")
    start = time.monotonic()
    stack.stop()
    stack.start()
    _print(f"edits taken: stack ready again after {time.monotonic() - start:.1f} s")
    return ControllerNotices(stack.log("controller"), notices.served_models)


def _stop(stack: LocalStack) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # stopping has a time limit of its own
    _print("stopping")
    start = time.monotonic()
    killed = stack.stop()
    _print(f"stopped after {time.monotonic() - start:.1f} s")
    for name in killed:
        print(
            f"local: {name} did not stop in time and was killed; its log is {stack.log(name)}",
            file=sys.stderr,
        )


def _print_ready(component: str, address: str, seconds: float) -> None:
    _print(f"{component} ready on {address} after {seconds:.1f} s")


def _print_notices(notices: ControllerNotices) -> None:
    for text in notices.new():
        _print(f"controller: {text}")


def _print(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
