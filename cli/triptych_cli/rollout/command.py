"""The command line of a rollout."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from triptych.runtime.addresses import argument
from triptych_cli import tls_options
from triptych_cli.arguments import between, duration, typed, whole
from triptych_cli.rollout.analysis import Limits
from triptych_cli.rollout.controller import Course
from triptych_cli.rollout.plan import PlanError, Traffic, parse_steps, remaining_steps, spell, split
from triptych_cli.rollout.spec import End, Wish
from triptych_cli.rollout.target import Target, TargetError
from triptych_cli.rollout.wiring import METRICS, Parts, parts, show

DESCRIPTION = """\
Raises the share of a version step by step. At each step it waits until the version is loaded and has its share, then
compares its requests with those of the old version over --hold: errors, latency (p50, p99) and, where the contract
has `observe`, its answers. It goes back to the traffic of before as soon as the new version is surely worse, when a
step gets too few requests to tell (--max-hold), when the version cannot be loaded, and on Ctrl-C; a second Ctrl-C
leaves the traffic as it is.

examples
  a document in a folder, beside `make run`:
    triptych rollout digits_gb --to 2 --steps 25,50,100 --hold 60s --documents manifests/served-models
  a ServedModel in Kubernetes:
    triptych rollout sales_forecast_de --to 4 --steps 5,25,50,100 --hold 5m --namespace triptych
  the code of a stage in KServe's Knative mode, applied with canaryTrafficPercent: 0 before:
    triptych rollout --inferenceservice preprocess --steps 10,50,100 --hold 5m --namespace triptych
"""
EPILOG = """\
exit status:
  0  promoted: the version has the share of the last step
  1  rolled back: the traffic is what it was before; the last line says why
  2  nothing was changed: a wrong call, an unknown version, no metrics
  3  neither: it could not go back, or someone else changed the traffic; the last line says what to do
"""


def main(arguments: Sequence[str]) -> int:
    """Runs one rollout; returns the exit status."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # a Job that is deleted goes back, as on Ctrl-C
    try:
        made = parts(options)
    except (PlanError, TargetError, OSError) as error:
        return _refuse(str(error))
    try:
        return _run(options, made)
    except (PlanError, TargetError) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return _refuse("interrupted; nothing was changed")
    finally:
        made.target.close()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "triptych rollout",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version, steps, seconds = whole(1, "a version"), typed(parse_steps), typed(duration)
    made.add_argument("model", nargs="?", help="folder in the model repository: sales_forecast_de")
    made.add_argument("--to", type=version, metavar="VERSION", help="the version that is to take over")
    made.add_argument("--steps", type=steps, default="5,25,50,100", metavar="PERCENTS", help="default 5,25,50,100")
    made.add_argument("--hold", type=seconds, default="60s", metavar="TIME", help="time of each step; default 60s")
    made.add_argument(
        "--max-hold", type=seconds, metavar="TIME", help="longest time of a step with too few requests; default 5 holds"
    )
    made.add_argument(
        "--gate-timeout", type=seconds, default="120s", metavar="TIME", help="longest wait for a share; default 120s"
    )
    _add_where(made)
    tls_options.add(made)
    _add_limits(made)
    made.add_argument("--yes", action="store_true", help="do not ask before the first change")
    made.add_argument("--dry-run", action="store_true", help="only show the traffic of each step")
    made.add_argument("--no-live", action="store_true", help="lines in place of the live picture")
    made.add_argument("--json", action="store_true", help="one JSON line for each step and one for the end")
    return made


def _add_where(made: argparse.ArgumentParser) -> None:
    where = made.add_argument_group("where the traffic is written")
    where.add_argument("--documents", type=Path, metavar="DIR", help="folder of ServedModel documents")
    where.add_argument(
        "--controller",
        type=typed(argument),
        default="127.0.0.1:9002",
        metavar="HOST:PORT",
        help="who follows it; default 127.0.0.1:9002",
    )
    where.add_argument("--namespace", metavar="NS", help="namespace of the ServedModel or InferenceService")
    where.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: as kubectl finds it")
    where.add_argument("--inferenceservice", metavar="NAME", help="split the code of a stage, and not a model")
    where.add_argument(
        "--component", choices=("predictor", "transformer"), default="predictor", help="of it; default predictor"
    )
    measured = made.add_argument_group("what is measured")
    measured.add_argument(
        "--metrics",
        nargs="+",
        metavar="URL",
        help="metrics of every preprocess, and of postprocess for answers; default: with --namespace its pods, "
        f"through the API server, else {' '.join(METRICS)}",
    )
    measured.add_argument("--prometheus", metavar="URL", help="ask this Prometheus instead of the stages")


def _add_limits(made: argparse.ArgumentParser) -> None:
    share, default = between(0, 1, "a share"), Limits()
    limits = made.add_argument_group("how much worse the new version may be, beyond doubt")
    numbers: list[tuple[str, Any, Any, str]] = [
        ("--max-error-rate-increase", share, default.error_rate_increase, "share of requests: 0.01 is one in 100"),
        ("--max-latency-ratio", between(1, 1000, "a ratio"), default.latency_ratio, "new p50 and p99 over the old"),
        ("--max-answer-shift", share, default.answer_shift, "share of answers that may move; 1 does not look"),
        ("--min-requests", whole(1, "requests"), default.min_requests, "of each side, to judge a step at all"),
    ]
    for name, kind, value, text in numbers:
        limits.add_argument(name, type=kind, default=value, metavar="N", help=f"{text}; default {value:g}")


def _run(options: argparse.Namespace, made: Parts) -> int:
    before = made.target.read()
    steps = remaining_steps(options.steps, before, made.to)
    if options.dry_run:
        return _dry_run(made.target, before, steps, made.to)
    limits = Limits(
        options.max_error_rate_increase, options.max_latency_ratio, options.max_answer_shift, options.min_requests
    )
    longest_s = options.max_hold or 5 * options.hold
    wish = Wish(made.what, made.to, steps, options.hold, longest_s, options.gate_timeout, limits)
    if not options.yes and not _agreed(wish, made.target, before):
        return _refuse("nothing was changed")
    return int(Course(wish, made.target, made.signals, show(options)).run().end)


def _dry_run(target: Target, before: Traffic, steps: Sequence[int], to: str) -> int:
    target.check(to)
    print(f"now    {spell(before)} ({target.where})")
    for share in steps:
        print(f"{share:3} %  {spell(split(before, to, share))}")
    return int(End.PROMOTED)


def _agreed(wish: Wish, target: Target, before: Traffic) -> bool:
    if not sys.stdin.isatty():
        raise PlanError("nobody is here to agree: say --yes, or --dry-run to only see what would be done")
    steps = ", ".join(f"{share} %" for share in wish.steps)
    question = f"{wish.model}: from {spell(before)} to version {wish.to} at {steps} ({target.where})? [y/N] "
    return input(question).strip().lower() in ("y", "yes")


def _refuse(text: str) -> int:
    sys.stderr.write(f"rollout: {text}\n")
    return int(End.NOTHING_CHANGED)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
