"""Triptych against its peers in one run: throughput, latency, and CPU per request of every process.

All systems are started, their answers are checked, and then they take turns. Ratios are computed within a round, so
that other load on the machine affects all systems alike. CPU per request is affected least.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.report import Report
from benchmarks.serving import closed_loop, many_models, open_loop, slow_model
from benchmarks.serving.bench import SYSTEMS, Bench, chosen, make
from benchmarks.serving.figures import goals, overview
from benchmarks.serving.figures.goals import Goal
from benchmarks.serving.progress_line import ProgressLine
from benchmarks.serving.workloads import WORKLOADS
from local.errors import LocalError
from local.programs.perf import ensure_perf_analyzer

HELP = "Triptych against KServe's transformer, Triton's ensemble and others, on the same requests"
TITLE = "Serving, against peers"

SPECIAL: Mapping[str, Callable[[Bench], list[Goal]]] = {
    "W4": many_models.run,
    "W5": open_loop.run,
    "W6": slow_model.run,
}
KNOWN = {**WORKLOADS, **SPECIAL}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--systems",
        default=",".join(SYSTEMS),
        help="which, with commas between; triptych:server=grpcio is one with a setting",
    )
    parser.add_argument("--workloads", default=",".join(KNOWN), help="which, with commas between")
    parser.add_argument("--callers", default="64,16,1", help="for closed loops: how many at once")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--repeats", type=int, default=4, help="rounds")
    parser.add_argument("--countries", type=int, default=200, help="of W4")


def main(given: argparse.Namespace, report: Report) -> None:
    """Start the systems, check their answers, measure all workloads, and report."""
    systems = chosen(given.systems, SYSTEMS)
    names = chosen(given.workloads, KNOWN)
    callers = [int(each) for each in given.callers.split(",")]
    expected = expected_s(names, len(systems), callers, given)
    with tempfile.TemporaryDirectory(prefix="triptych-serving-") as folder, ProgressLine(expected) as progress:
        bench = Bench(
            *(ensure_perf_analyzer(), Path(folder), report, progress, systems, callers),
            *(given.seconds, given.repeats, given.countries),
        )
        for name in systems:
            report.text(f"**{name}**: {make(name, bench.root).title}.")
        reached: list[Goal] = []
        failed: list[str] = []
        for label, measurement in _measurements(names).items():
            try:
                reached += measurement(bench)
            except LocalError as error:  # keep the measurements before it
                progress.clear()
                report.text(f"**{label} could not be measured:** {error}")
                failed.append(label)
        overview.add_to(report, bench.runs)
        goals.add_to(report, [*goals.of_runs(bench.runs), *reached])
    if failed:
        report.write()
        raise LocalError(f"{', '.join(failed)} could not be measured; {report.folder / 'results.md'} says why")


def expected_s(names: Sequence[str], systems: int, callers: Sequence[int], given: argparse.Namespace) -> float:
    """Estimated duration in seconds on an idle machine, for the progress line."""
    start, repeats, run = 10.0, int(given.repeats), float(given.seconds) + 2.0
    several = sum(many > 1 for many in callers)
    closed_s = len(callers) * (4 + repeats * run) + 5
    each: dict[str, float] = {
        "W4": given.countries * 1.2 + 2 * several * repeats * run,
        "W5": start + 8 * repeats * (run + 1),
        "W6": start + several * (3 + repeats * run),
    }
    return systems * (start + sum(each.get(name, closed_s) for name in names))


def _measurements(names: Sequence[str]) -> dict[str, Callable[[Bench], list[Goal]]]:
    """Measurements by label: the workloads on the example models together, then each special one."""
    plain = [WORKLOADS[name] for name in names if name in WORKLOADS]
    together = {", ".join(each.name for each in plain): lambda bench: closed_loop.run(bench, plain)} if plain else {}
    return {**together, **{name: SPECIAL[name] for name in names if name in SPECIAL}}
