"""The command line of `triptych wait`."""

from __future__ import annotations

import argparse
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
Wait until the pods of Deployments and InferenceServices are those of their specs, and ready. Helm waits for Deployments
alone, so with KServe a hook of the chart calls this command (`readinessHook.enabled`).

examples:
  triptych wait --namespace triptych inferenceservice/preprocess deployment/controller
"""
EPILOG = """\
exit status: 0 if all are ready, 1 if one is not within --timeout, 2 for wrong options. Each line says what is missing,
in the words of the kubelet where a pod does not start.
"""


def main(arguments: Sequence[str]) -> int:
    """Wait for all workloads. Returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        api = BlockingApi.connect(options.kubeconfig)
    except OSError as error:
        sys.stderr.write(f"triptych wait: {error}\n")
        return 2
    try:
        return run(api, options.namespace, options.workload, options.timeout)
    finally:
        api.close()


def parser() -> argparse.ArgumentParser:
    made = command_parser("wait", DESCRIPTION, EPILOG)
    made.add_argument(
        "workload",
        nargs="+",
        type=argument_type(parse_workload),
        metavar="KIND/NAME",
        help="deployment/NAME or inferenceservice/NAME",
    )
    made.add_argument("--namespace", required=True, help="namespace of the workloads")
    made.add_argument(
        "--timeout",
        type=argument_type(duration),
        default=240.0,
        metavar="TIME",
        help="time for all of them, as in 90s or 5m (default: 4m)",
    )
    made.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="default: as kubectl, then the account of the pod"
    )
    return made


def run(
    api: BlockingApi,
    namespace: str,
    workloads: Sequence[Workload],
    timeout_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Observe until all are ready or the time is over, and print each change."""
    deadline = time.monotonic() + timeout_s
    reasons: dict[Workload, str] = {}
    while True:
        for workload in workloads:
            reason = _observe(api, namespace, workload)
            if reasons.get(workload) != reason:
                print(f"{workload}: {reason or 'ready'}", flush=True)
            reasons[workload] = reason
        if not any(reasons.values()):
            return 0
        if time.monotonic() > deadline:
            late = ", ".join(str(workload) for workload, reason in reasons.items() if reason)
            print(f"not ready after {timeout_s:g} s: {late}", flush=True)
            return 1
        sleep(PERIOD_S)


def _observe(api: BlockingApi, namespace: str, workload: Workload) -> str:
    """Why a workload is not ready. An API server that does not answer is a reason to try again."""
    try:
        return unfinished(api, namespace, workload)
    except ApiError as error:
        return f"cannot be read: {error}"
