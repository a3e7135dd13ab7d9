"""Start time of each part of Triptych, to ready and to the first answer of Triptych, and its memory at rest.

Each part is stopped and started several times while the others run. *Ready* is reported by its health check. The first
answer is that to a request through the whole stack; for Triton it includes a load. *Imports* is the import time of the
modules alone, by `-X importtime`.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks import load, processes
from benchmarks.model_folders import publish
from benchmarks.report import Report
from examples.models.progress import TaskProgress
from local.endpoints import COMPONENTS, free_endpoints
from local.environments import ensure
from local.errors import LocalError
from local.stack import LocalStack

HELP = "each part of Triptych: from its start to ready and to the first answer; CPU, memory"
TITLE = "How fast the parts start"

ANSWER_TIMEOUT_S, POLL_S = 30.0, 0.05


@dataclass(frozen=True)
class Start:
    """Seconds from process start, CPU seconds until ready, and MiB at rest without file-backed pages."""

    ready_s: float
    answer_s: float
    cpu_s: float
    rest_mib: float


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5, help="starts of each part")


def main(given: argparse.Namespace, report: Report) -> None:
    """Measure all parts and report the medians."""
    progress = TaskProgress()
    starts: dict[str, list[Start]] = {}
    with tempfile.TemporaryDirectory(prefix="triptych-start-") as folder:
        publish(Path(folder) / "models", 1)
        (Path(folder) / "documents").mkdir()
        progress.begin("start: Triptych")
        with _stack(Path(folder)) as stack:
            for part in COMPONENTS:
                progress.begin(f"start: {part}")
                starts[part] = [_start(stack, part) for _ in range(given.repeats)]
    progress.end()
    rows = []
    for name, each in starts.items():
        imports = _imports_s(name)
        rows.append(
            [
                name,
                *(f"{median(getattr(one, what) for one in each):.2f} s" for what in ("ready_s", "answer_s", "cpu_s")),
                f"{imports:.2f} s" if imports else "",
                f"{median(one.rest_mib for one in each):.0f} MiB",
            ]
        )
    title = f"Median of {given.repeats} starts"
    report.table(title, ["part", "to ready", "to the first answer", "CPU to ready", "imports", "memory at rest"], rows)
    report.figures("starts", {name: [asdict(one) for one in each] for name, each in starts.items()})


def _stack(root: Path) -> LocalStack:
    return LocalStack(
        free_endpoints(),
        root / "run",
        ensure("predictor"),
        model_repository=root / "models",
        served_models=root / "documents",
    )


def _start(stack: LocalStack, part: str) -> Start:
    _answered(stack)
    stack.stop_component(part)
    started_s = time.monotonic()
    ready_s = stack.start_component(part)
    cpu_s = processes.cpu_s(stack.pids()[part])
    _answered(stack)
    answer_s = time.monotonic() - started_s
    time.sleep(1.0)
    return Start(ready_s, answer_s, cpu_s, processes.own_mib(stack.pids()[part]))


def _answered(stack: LocalStack) -> None:
    """Wait until a request is answered; the other parts reconnect to a restarted part after a backoff."""
    until_s = time.monotonic() + ANSWER_TIMEOUT_S
    while True:
        (answer,) = asyncio.run(load.send_all(stack.address("preprocess"), [0], 1))
        if not answer.error:
            return
        if time.monotonic() > until_s:
            raise LocalError(answer.error)
        time.sleep(POLL_S)


def _imports_s(part: str) -> float:
    """Import time of a service's modules in seconds; 0 for Triton."""
    if part == "predictor":
        return 0.0
    command = [sys.executable, "-X", "importtime", "-c", f"import {part}.server"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()[1:]
    return sum(int(line.removeprefix("import time:").split("|")[0]) for line in lines) / 1e6
