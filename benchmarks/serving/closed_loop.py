"""W1, W2 and W3: closed loops. Each caller sends its next request after the answer to the one before."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.serving.bench import REFERENCE, Bench, make
from benchmarks.serving.figures import tables
from benchmarks.serving.figures.goals import Goal
from benchmarks.serving.measurement import lower_bound, measure
from benchmarks.serving.measurement.measure import Run
from benchmarks.serving.systems.base import System
from benchmarks.serving.systems.predictor import Triton
from benchmarks.serving.workloads import ServingWorkload

WITH_BOUND = ("W2",)  # where the work before the model dominates
BOUND_CALLERS = 16  # at least: fewer do not keep the cores busy


def run(bench: Bench, workloads: Sequence[ServingWorkload]) -> list[Goal]:
    """Measure all systems together, and each one with idle CPU load beside Triptych alone. Report the figures."""
    restless = [name for name in bench.systems if make(name, bench.root).restless]
    teams = [[name for name in bench.systems if name not in restless], *([REFERENCE, name] for name in restless)]
    runs: dict[str, list[Run]] = {workload.name: [] for workload in workloads}
    for number, team in enumerate(team for team in teams if team):
        with bench.running(f"plain-{number + 1}", workloads, team) as systems:
            for workload in workloads:
                runs[workload.name] += _turns(bench, systems, workload, number * bench.repeats)
    bench.progress.clear()
    for workload in workloads:
        tables.add_to(bench.report, workload, runs[workload.name], REFERENCE)
        bench.runs.extend(runs[workload.name])
    return []


def _turns(bench: Bench, systems: Sequence[System], workload: ServingWorkload, first_round: int) -> list[Run]:
    """Measure these systems at all numbers of callers. Rounds of different sets of systems have different numbers."""
    bench.progress.show(f"{workload.name}: answers are checked")
    prepared = [measure.prepare(bench.program, system, workload, bench.root) for system in systems]
    names = [system.name for system in systems]
    bare = workload.name in WITH_BOUND and Triton.name in names
    runs: list[Run] = []
    for callers in bench.callers:
        loops, found = [], []
        for number, at in bench.rounds(f"{workload.name}, {callers} callers", names):
            if bare and callers >= BOUND_CALLERS and names[at] == Triton.name:
                loops.append(lower_bound.bare_loops(workload, first_round + number, bench.seconds / 2, bench.root))
            round_ = first_round + number
            found.append(measure.closed(bench.program, prepared[at], workload, callers, round_, bench.seconds))
        runs += [*found, *lower_bound.combined(loops, found)]
    return runs
