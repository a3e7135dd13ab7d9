"""Regression check: CPU per request of every process against the committed figures, in under three minutes.

Triptych is measured with W1 at 64 callers and at one, and with W2 at 16. A reference that no change of this tree
affects is measured beside each: Triton alone for W1, the bare OpenCV work for W2. The compared figure is CPU per
request over the reference's, since CPU seconds differ between machines and with other load. The committed figures are
in results/serving/quick.json; `--keep` writes them anew. The exit status is 1 if a figure is worse.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, Report, command, machine, versions
from benchmarks.serving.bench import Bench
from benchmarks.serving.figures.statistics import Spread
from benchmarks.serving.measurement import lower_bound, measure
from benchmarks.serving.measurement.measure import Run
from benchmarks.serving.progress_line import ProgressLine
from benchmarks.serving.systems.predictor import Triton
from benchmarks.serving.systems.triptych import Triptych
from benchmarks.serving.workloads import WORKLOADS, ServingWorkload
from local.environments import ROOT
from local.errors import LocalError
from local.programs.perf import ensure_perf_analyzer

HELP = "CPU per request of every process against the committed figures; ends with 1 if something is worse"
TITLE = "Serving, in short"
FILE = ROOT / RESULTS / "serving/quick.json"

POINTS = (("W1", 64), ("W1", 1), ("W2", 16))  # workload and callers
LEAST_TOLERANCE = 0.10  # smaller changes are within noise
SMALL = 0.05  # processes with less than this share of a request's CPU are not compared
TOTAL = "all"


@dataclass(frozen=True)
class Cost:
    """CPU of one process at one workload: microseconds per request, and the ratio to the reference."""

    microseconds: float
    times: Spread

    @property
    def noise(self) -> float:
        """Half of the range of the rounds, relative to the median."""
        return (self.times.most - self.times.least) / 2 / self.times.median if self.times.median else 0.0


# By workload and callers, and by process.
Costs = dict[str, dict[str, Cost]]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=2.5, help="of each run")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--keep", action="store_true", help=f"write {FILE.relative_to(ROOT)} instead of comparing")


def main(given: argparse.Namespace, report: Report) -> int:
    """Return 1 if a figure is worse than the committed one, else 0."""
    known = None if given.keep else read(FILE)
    if known is not None:
        check(known)
    runs = _measured(given, report)
    costs = costs_of(runs)
    print(f"neighbours took {100 * Spread.of(run.others for run in runs).median:.0f} % of the machine meanwhile")
    if known is None:
        write(FILE, costs)
        print(f"kept in {FILE.relative_to(ROOT)}")
        return 0
    lines = compared(known, costs)
    print("\n".join(line.text for line in lines))
    worse = [line for line in lines if line.worse]
    print(f"\n{len(worse)} of {len(lines)} figures are worse than {FILE.relative_to(ROOT)}")
    return 1 if worse else 0


def _measured(given: argparse.Namespace, report: Report) -> list[Run]:
    workloads = [WORKLOADS[name] for name in dict.fromkeys(name for name, _ in POINTS)]
    expected = 20 + given.repeats * len(POINTS) * (2 * given.seconds + 3)
    with tempfile.TemporaryDirectory(prefix="triptych-quick-") as folder, ProgressLine(expected) as progress:
        bench = Bench(
            *(ensure_perf_analyzer(), Path(folder), report, progress, [Triptych.name, Triton.name], []),
            *(given.seconds, given.repeats, 0),
        )
        with bench.running("quick", workloads) as systems:
            ours, triton = (
                {each.name: measure.prepare(bench.program, system, each, bench.root) for each in workloads}
                for system in systems
            )
            runs: list[Run] = []
            for number in range(given.repeats):
                for name, callers in POINTS:
                    progress.show(f"{name}, {callers} callers, round {number + 1} of {given.repeats}")
                    each = WORKLOADS[name]
                    run = measure.closed(bench.program, ours[name], each, callers, number, given.seconds)
                    reference = _reference(bench, triton, each, callers, number)
                    runs += [run, replace(reference, point=run.point)]
    return runs


def _reference(
    bench: Bench, triton: Mapping[str, measure.Prepared], each: ServingWorkload, callers: int, number: int
) -> Run:
    if each.name == "W2":
        return lower_bound.bare_loops(each, number, bench.seconds / 2, bench.root)
    return measure.closed(bench.program, triton[each.name], each, callers, number, bench.seconds)


def costs_of(runs: Sequence[Run]) -> Costs:
    """CPU of every process of Triptych and of all together, relative to the reference of the same round."""
    costs: Costs = {}
    for workload, point in dict.fromkeys((run.workload, run.point) for run in runs):
        there = [run for run in runs if (run.workload, run.point) == (workload, point)]
        ours = [run for run in there if run.system == Triptych.name]
        others = {run.round: run for run in there if run.system != Triptych.name}
        names = [TOTAL, *sorted({name for run in ours for name in run.cpu})]
        key = f"{workload}, {point}"
        costs[key] = {}
        for name in names:
            used = {run.round: 1000 * (run.cpu_total if name == TOTAL else run.cpu.get(name, 0.0)) for run in ours}
            times = Spread.of(value / (1000 * others[number].cpu_total) for number, value in used.items())
            costs[key][name] = Cost(Spread.of(used.values()).median, times)
    return costs


def check(known: Costs) -> None:
    """Raise `LocalError` if the committed figures lack a point, before the measurement starts."""
    for name, callers in POINTS:
        if (key := f"{name}, {measure.point_of(callers)}") not in known:
            raise LocalError(f"{FILE}: no '{key}'; write it anew with --keep")


@dataclass(frozen=True)
class Line:
    """Comparison of one process with the committed figure."""

    text: str
    worse: bool


def compared(known: Costs, found: Costs) -> list[Line]:
    """Compare each process whose share of the CPU is large enough."""
    lines = []
    for workload, processes in found.items():
        for name in dict.fromkeys([*known[workload], *processes]):
            before, now = known[workload].get(name), processes.get(name)
            all_of_it = max(each[TOTAL].microseconds for each in (known[workload], processes))
            if max(each.microseconds for each in (before, now) if each) >= SMALL * all_of_it:
                lines.append(_line(f"{workload} {name}", before, now))
    return lines


def tolerance(before: Cost, now: Cost) -> float:
    """Relative increase that is not counted as worse: the noise of both runs, at least a tenth."""
    return max(LEAST_TOLERANCE, before.noise + now.noise)


def _line(name: str, before: Cost | None, now: Cost | None) -> Line:
    if before is None or now is None:
        known = f"{before.microseconds:.0f} us" if before else "not there"
        found = f"{now.microseconds:.0f} us" if now else "not there"
        return Line(f"{name:36} {known} before, {found} now", worse=before is None)
    change, allowed = now.times.median / before.times.median - 1, tolerance(before, now)
    worse = change > allowed
    comparison = "WORSE" if worse else "better" if change < -allowed else "same"
    return Line(
        f"{name:36} {before.microseconds:6.0f} us, {before.times.median:5.2f} x reference before; "
        f"{now.microseconds:6.0f} us, {now.times.median:5.2f} x now: {100 * change:+4.0f} % "
        f"(within {100 * allowed:.0f} % is noise)  {comparison}",
        worse,
    )


def write(file: Path, costs: Costs) -> None:
    made: dict[str, Any] = {"command": command(), "machine": machine(), "versions": versions()}
    made["costs"] = {workload: {name: asdict(cost) for name, cost in each.items()} for workload, each in costs.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(made, indent=1) + "\n")


def read(file: Path) -> Costs:
    """Read committed figures. Raises `LocalError` if the file is missing or malformed."""
    try:
        costs = json.loads(file.read_text())["costs"]
        return {
            workload: {name: Cost(each["microseconds"], Spread(**each["times"])) for name, each in processes.items()}
            for workload, processes in costs.items()
        }
    except FileNotFoundError:
        raise LocalError(f"{file}: not there; write it with --keep") from None
    except (ValueError, KeyError, TypeError) as error:
        raise LocalError(f"{file}: {type(error).__name__}: {error}; write it anew with --keep") from error
