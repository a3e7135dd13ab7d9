"""The command line of `triptych rollout`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from triptych.runtime.addresses import address_argument
from triptych_cli import tls_options
from triptych_cli.arguments import argument_type, command_parser, duration, number_between, whole_number
from triptych_cli.rollout.analysis import Tolerances
from triptych_cli.rollout.components import METRICS, Components, build_components, build_reporter
from triptych_cli.rollout.controller import RolloutController
from triptych_cli.rollout.spec import ExitStatus, RolloutSpec
from triptych_cli.rollout.targets.target import RolloutTarget, TargetError
from triptych_cli.rollout.traffic_split import (
    TrafficSplit,
    UsageError,
    format_split,
    parse_steps,
    remaining_steps,
    split,
)

DESCRIPTION = """\
Raise the share of a version step by step. Each step waits until the version is loaded and has its share. Then it
compares the version with the old one over --hold: errors, latency (p50, p99) and, if the contract has `observe`, its
answers. It rolls back to the traffic of before if the new version is worse, if a step gets too few requests
(--max-hold), if the version cannot be loaded, and on Ctrl-C. A second Ctrl-C leaves the traffic as it is.

examples:
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
  1  rolled back to the traffic of before; the last line says why
  2  nothing was changed: a wrong call, an unknown version, no metrics
  3  neither: the rollback failed, or someone else changed the traffic; the last line says what to do
"""


def main(arguments: Sequence[str]) -> int:
    """Run one rollout. Returns the exit status."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # a Job that is deleted rolls back, like Ctrl-C
    try:
        components = build_components(options)
    except (UsageError, TargetError, OSError) as error:
        return _refuse(str(error))
    try:
        return _run(options, components)
    except (UsageError, TargetError) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return _refuse("interrupted; nothing was changed")
    finally:
        components.target.close()


def parser() -> argparse.ArgumentParser:
    made = command_parser("rollout", DESCRIPTION, EPILOG)
    version, steps, seconds = whole_number(1, "a version"), argument_type(parse_steps), argument_type(duration)
    made.add_argument("model", nargs="?", help="folder in the model repository: sales_forecast_de")
    made.add_argument("--to", type=version, metavar="VERSION", help="the new version")
    made.add_argument("--steps", type=steps, default="5,25,50,100", metavar="PERCENTS", help="default 5,25,50,100")
    made.add_argument("--hold", type=seconds, default="60s", metavar="TIME", help="time of each step; default 60s")
    made.add_argument(
        "--max-hold", type=seconds, metavar="TIME", help="longest time of a step with too few requests; default 5 holds"
    )
    made.add_argument(
        "--gate-timeout", type=seconds, default="120s", metavar="TIME", help="longest wait for a share; default 120s"
    )
    _add_target(made)
    tls_options.add(made)
    _add_tolerances(made)
    made.add_argument("--yes", action="store_true", help="no question before the first change")
    made.add_argument("--dry-run", action="store_true", help="show the traffic of each step and change nothing")
    made.add_argument("--no-live", action="store_true", help="lines in place of the live panel")
    made.add_argument("--json", action="store_true", help="one JSON line for each step and one for the end")
    return made


def _add_target(made: argparse.ArgumentParser) -> None:
    where = made.add_argument_group("where the traffic is written")
    where.add_argument("--documents", type=Path, metavar="DIR", help="folder of ServedModel documents")
    where.add_argument(
        "--controller",
        type=argument_type(address_argument),
        default="127.0.0.1:9002",
        metavar="HOST:PORT",
        help="the controller that reads the folder; default 127.0.0.1:9002",
    )
    where.add_argument("--namespace", metavar="NS", help="namespace of the ServedModel or InferenceService")
    where.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: as kubectl finds it")
    where.add_argument("--inferenceservice", metavar="NAME", help="roll out the code of a stage in place of a model")
    where.add_argument(
        "--component",
        choices=("predictor", "transformer"),
        default="predictor",
        help="its component; default predictor",
    )
    measured = made.add_argument_group("source of the metrics")
    measured.add_argument(
        "--metrics",
        nargs="+",
        metavar="URL",
        help="metrics URLs of every preprocess, and of postprocess for answers; default: the pods of --namespace, "
        f"through the API server, or {' '.join(METRICS)}",
    )
    measured.add_argument("--prometheus", metavar="URL", help="query this Prometheus in place of the stages")


def _add_tolerances(made: argparse.ArgumentParser) -> None:
    share, default = number_between(0, 1, "a share"), Tolerances()
    limits = made.add_argument_group("tolerances: how much worse the new version may be")
    numbers: list[tuple[str, Any, Any, str]] = [
        ("--max-error-rate-increase", share, default.error_rate_increase, "share of requests: 0.01 is one in 100"),
        (
            "--max-latency-ratio",
            number_between(1, 1000, "a ratio"),
            default.latency_ratio,
            "new p50 and p99 over the old",
        ),
        (
            "--max-answer-shift",
            share,
            default.answer_shift,
            "share of answers that may differ; 1 switches the test off",
        ),
        (
            "--min-requests",
            whole_number(1, "requests"),
            default.min_requests,
            "minimum of each version for an analysis",
        ),
    ]
    for name, kind, value, text in numbers:
        limits.add_argument(name, type=kind, default=value, metavar="N", help=f"{text}; default {value:g}")


def _run(options: argparse.Namespace, components: Components) -> int:
    before = components.target.read()
    steps = remaining_steps(options.steps, before, components.to)
    if options.dry_run:
        return _dry_run(components.target, before, steps, components.to)
    tolerances = Tolerances(
        options.max_error_rate_increase, options.max_latency_ratio, options.max_answer_shift, options.min_requests
    )
    max_hold_s = options.max_hold or 5 * options.hold
    spec = RolloutSpec(
        components.name, components.to, steps, options.hold, max_hold_s, options.gate_timeout, tolerances
    )
    if not options.yes and not _confirmed(spec, components.target, before):
        return _refuse("nothing was changed")
    return int(
        RolloutController(spec, components.target, components.metrics, build_reporter(options)).run().exit_status
    )


def _dry_run(target: RolloutTarget, before: TrafficSplit, steps: Sequence[int], to: str) -> int:
    target.check_version(to)
    print(f"now    {format_split(before)} ({target.where})")
    for share in steps:
        print(f"{share:3} %  {format_split(split(before, to, share))}")
    return int(ExitStatus.PROMOTED)


def _confirmed(spec: RolloutSpec, target: RolloutTarget, before: TrafficSplit) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("no terminal to confirm on: give --yes, or --dry-run to only show the steps")
    steps = ", ".join(f"{share} %" for share in spec.steps)
    question = f"{spec.model}: from {format_split(before)} to version {spec.to} at {steps} ({target.where})? [y/N] "
    return input(question).strip().lower() in ("y", "yes")


def _refuse(text: str) -> int:
    sys.stderr.write(f"rollout: {text}\n")
    return int(ExitStatus.NOTHING_CHANGED)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
