"""The command line of `triptych wait`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from controller.kubernetes.api import ApiError
from controller.kubernetes.blocking import BlockingApi
from triptych_cli.arguments import argument_type, command_parser, duration
from triptych_cli.wait.workloads import Workload, parse_workload, unfinished

PERIOD_S = 1.0

DESCRIPTION = """\
Wait until every pod of these Deployments and InferenceServices is of the latest spec and available, and none of an
older spec is left: what `kubectl rollout status` waits for, for several workloads and for those of KServe too. A hook
of the chart calls it (`readinessHook.enabled`), because an InferenceService stays Ready while KServe changes its pods.

examples:
  mode Deployment, after helm upgrade:
    triptych wait --namespace triptych deployment/preprocess deployment/controller
  KServe, for at most 10 minutes:
    triptych wait --namespace triptych --timeout 10m inferenceservice/preprocess deployment/controller
"""
EPILOG = """\
A line is printed for each workload, and another one when that changes:
  inferenceservice/preprocess: KServe has not applied its latest change yet
  inferenceservice/preprocess: want 2 updated pods, all available, got 1 updated and 2 old, 2 available; pod ...: ...
  inferenceservice/preprocess: ready

KServe applies a change a moment later. That is noticed by the annotation triptych.dev/pod-digest, which the chart
writes with `readinessHook.enabled`. Without it, let a few seconds pass before you wait for an InferenceService.

exit status:
  0  all workloads are ready
  1  one was not ready within --timeout; the last line says which, and why
  2  a wrong call, or no kubeconfig; nothing was waited for
"""


def main(arguments: Sequence[str]) -> int:
    """Wait for all workloads. Returns the exit status."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # process 1 of a pod ignores it otherwise
    try:
        api = BlockingApi.connect(options.kubeconfig)
    except OSError as error:
        return _fail(2, f"{error}: want a kubeconfig: --kubeconfig FILE, KUBECONFIG or ~/.kube/config")
    try:
        return run(api, options.namespace, options.workload, options.timeout)
    except KeyboardInterrupt:
        return _fail(1, "interrupted before all workloads were ready")
    finally:
        api.close()


def parser() -> argparse.ArgumentParser:
    made = command_parser("wait", DESCRIPTION, EPILOG)
    made.add_argument(
        "workload",
        nargs="+",
        type=argument_type(parse_workload),
        metavar="KIND/NAME",
        help="what to wait for: deployment/NAME or inferenceservice/NAME",
    )
    made.add_argument("--namespace", required=True, help="namespace of the workloads")
    made.add_argument(
        "--timeout",
        type=argument_type(duration),
        default=240.0,
        metavar="TIME",
        help="longest time for all of them together, as in 90s or 5m (default: 4m)",
    )
    made.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: that of kubectl; in a pod its account")
    return made


def run(
    api: BlockingApi,
    namespace: str,
    workloads: Sequence[Workload],
    timeout_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Observe until all are ready or the time is over, and print each change. Returns the exit status."""
    deadline = time.monotonic() + timeout_s
    reasons: dict[Workload, str] = {}
    while True:
        for workload in workloads:
            reason = _observe(api, namespace, workload)
            if reasons.get(workload) != reason:
                print(f"{workload}: {reason or 'ready'}", flush=True)
            reasons[workload] = reason
        late = [f"{workload}: {reason}" for workload, reason in reasons.items() if reason]
        if not late:
            return 0
        if time.monotonic() > deadline:
            advice = f"see `kubectl -n {namespace} describe pods`, or raise --timeout (readinessHook.timeoutSeconds)"
            return _fail(1, f"not ready after {timeout_s:g} s: {'; '.join(late)}. To do: {advice}")
        sleep(PERIOD_S)


def _observe(api: BlockingApi, namespace: str, workload: Workload) -> str:
    """Why a workload is not ready. An API server that does not answer is a reason to try again."""
    try:
        return unfinished(api, namespace, workload)
    except ApiError as error:
        return f"cannot be read: {error}"


def _fail(status: int, sentence: str) -> int:
    print(f"triptych wait: {sentence}", file=sys.stderr, flush=True)
    return status
