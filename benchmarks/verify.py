"""Time of `triptych verify` over many models: copies of all members of the model repository, each with its own route.

The command runs in a process of its own, as a user starts it; its time includes the start of Python. The best and the
worst of several runs are reported, with the CPU time of the best: on a busy machine only that is steady.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.model_folders import publish_members
from benchmarks.report import Report
from local.errors import LocalError

HELP = "triptych verify of many models: time and CPU time"
TITLE = "How long triptych verify takes"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, default=1000, help="model folders")
    parser.add_argument("--repeats", type=int, default=3, help="runs")
    parser.add_argument("--goal-s", type=float, default=60.0, help="most seconds of the worst run")


def main(given: argparse.Namespace, report: Report) -> int | None:
    """Measure and report. Returns 1 over the goal."""
    with tempfile.TemporaryDirectory(prefix="triptych-verify-") as folder:
        publish_members(Path(folder) / "models", given.models)
        runs = sorted(_run(Path(folder) / "models") for _ in range(given.repeats))
    (best_s, cpu_s), (worst_s, _) = runs[0], runs[-1]
    head = ["models", "best run", "worst run", "CPU time of the best", "CPU time of a model"]
    row = [given.models, *(f"{s:.1f} s" for s in (best_s, worst_s, cpu_s)), f"{cpu_s / given.models * 1e3:.1f} ms"]
    report.table(f"{given.repeats} runs, goal {given.goal_s:g} s", head, [row])
    report.figures("runs", [{"seconds": seconds, "cpu_s": cpu} for seconds, cpu in runs])
    report.write()
    return 1 if worst_s > given.goal_s else 0


def _run(models: Path) -> tuple[float, float]:
    """Seconds and CPU seconds of one run. Raises `LocalError` if the models are not all valid."""
    before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "triptych_cli", "verify", str(models)], capture_output=True, text=True)
    seconds, after = time.perf_counter() - started_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise LocalError(f"triptych verify: {(done.stdout + done.stderr).strip()[-500:]}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
