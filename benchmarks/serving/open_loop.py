"""W5: open loop at fractions of each system's capacity, and at twice the capacity.

Up to 90 % of the capacity perf_analyzer sends the requests of W1, with Poisson arrivals or in bursts. At twice the
capacity ghz sends the pictures of W2, since it continues after refusals. Sending a picture costs an eighth of answering
it; sending rows would cost as much as answering. Goodput counts requests answered OK within their deadline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.serving.bench import REFERENCE, Bench, make
from benchmarks.serving.figures import tables
from benchmarks.serving.figures.goals import Goal, at_least, at_most
from benchmarks.serving.figures.statistics import Spread, groups
from benchmarks.serving.measurement import cpu, ghz, load, measure
from benchmarks.serving.measurement.ghz import GhzResult
from benchmarks.serving.measurement.measure import Prepared, Run
from benchmarks.serving.systems.base import System
from benchmarks.serving.systems.predictor import Triton
from benchmarks.serving.workloads import WORKLOADS, ServingWorkload
from local.errors import LocalError

Found = TypeVar("Found")

WORKLOAD = replace(WORKLOADS["W1"], name="W5", title="open loop, parts of the own capacity")
OVERLOAD = replace(WORKLOADS["W2"], name="W5 overload", title="pictures at and beyond the own capacity")
CALLERS = 64  # for the measurement of the capacity
SHARES = (0.3, 0.6, 0.9)
BURST, BURST_SHARE = 32, 0.6
OFFERED = (1.0, 2.0)
DEADLINE_S = 1.0
MOST_FAILURES = 2
GOAL_P99, GOAL_GOODPUT = 2.4, 0.85
OVERLOAD_HEAD = [
    *("system", "times capacity", "offered/s", "goodput/s", "of its best"),
    *("p99 of good", "others take", "answers"),
]


def run(bench: Bench) -> list[Goal]:
    """Measure all systems except Triton alone and those with idle CPU load. Report the figures."""
    names = [name for name in bench.systems if name != Triton.name and not make(name, bench.root).restless]
    with bench.running("W5", [WORKLOAD, OVERLOAD], names) as systems:
        prepared = [measure.prepare(bench.program, system, WORKLOAD, bench.root) for system in systems]
        pictures = [measure.prepare(bench.program, system, OVERLOAD, bench.root) for system in systems]
        runs = _of_all(bench, "W5", names, lambda at, number: _arrivals(bench, prepared[at], number))
        overloads = _of_all(
            bench, "W5, overload", names, lambda at, number: _overload(bench, systems[at], pictures[at], number)
        )
    bench.progress.clear()
    tables.add_to(bench.report, WORKLOAD, runs, REFERENCE)
    bench.runs.extend(runs)
    _report_tails(bench, runs)
    _report_overload(bench, overloads)
    return _goals(runs, overloads)


def _of_all(
    bench: Bench, title: str, names: Sequence[str], measured: Callable[[int, int], Iterable[Found]]
) -> list[Found]:
    """Measure all systems in all rounds. Failures are reported; a system that fails twice is left out.

    Raises `LocalError` if that is the reference. One failure may come from the machine: perf_analyzer stops at the
    first refused request, for instance when other processes take the cores and 512 requests wait.
    """
    found: list[Found] = []
    failures = Counter[str]()
    for number, at in bench.rounds(title, names):
        name = names[at]
        if failures[name] == MOST_FAILURES:
            continue
        try:
            found += measured(at, number)
        except LocalError as error:
            failures[name] += 1
            if name == REFERENCE and failures[name] == MOST_FAILURES:
                raise
            bench.report.text(f"**{name} failed in round {number + 1} of {title}:** {error}")
    return found


def _arrivals(bench: Bench, prepared: Prepared, number: int) -> Iterator[Run]:
    """Measure the capacity, then the fractions of it."""
    capacity = measure.closed(bench.program, prepared, WORKLOAD, CALLERS, number, bench.seconds)
    yield replace(capacity, point="capacity")
    target, system = prepared.target, prepared.system
    for share in SHARES:
        rate = share * capacity.rate
        count = max(CALLERS, round(rate * bench.seconds))
        yield measure.observe(
            *(system, WORKLOAD, f"Poisson, {100 * share:.0f} %", number),
            lambda rate=rate, count=count: load.poisson(bench.program, target, rate, count),  # type: ignore[misc]
        )
    rate = BURST_SHARE * capacity.rate
    file = bench.root / f"{system.name}-bursts"
    file.write_text("".join(f"{interval}\n" for interval in burst_intervals_us(rate, BURST)))
    yield measure.observe(
        *(system, WORKLOAD, f"bursts of {BURST}, {100 * BURST_SHARE:.0f} %", number),
        lambda: load.at_intervals(bench.program, target, file, max(CALLERS, round(rate * bench.seconds))),
    )


def burst_intervals_us(rate: float, burst: int) -> list[int]:
    """Intervals in microseconds: a burst of requests, then a pause that gives the average rate."""
    return [1] * (burst - 1) + [max(1, round(1e6 * burst / rate) - burst + 1)]


@dataclass(frozen=True)
class OverloadRun:
    """Requests sent at a multiple of a system's capacity, with their outcomes."""

    system: str
    round: int
    times: float
    capacity: float
    result: GhzResult
    cpu: dict[str, float]

    @property
    def goodput(self) -> float:
        """Requests/s answered OK within the deadline."""
        return self.result.rate

    def figures(self) -> dict[str, Any]:
        """The figures of the report."""
        return {
            **{"system": self.system, "round": self.round, "times": self.times, "capacity": self.capacity},
            **{"offered": self.result.offered, "goodput": self.goodput, "statuses": dict(self.result.counts)},
            **{"cpu": self.cpu, "load_cpu": self.result.cpu_s},
        }


def _overload(bench: Bench, system: System, prepared: Prepared, number: int) -> Iterator[OverloadRun]:
    capacity = measure.closed(bench.program, prepared, OVERLOAD, CALLERS, number, bench.seconds).rate
    protoset = ghz.write_protoset(bench.root / "oip.protoset")
    data = _messages(system, OVERLOAD, bench.root)
    for times in OFFERED:
        rate = times * capacity
        before = cpu.of_parts(system.pids())
        words = ["--rps", f"{max(1, round(rate))}", "--async", "--concurrency", "4"]
        result = ghz.shoot(system.address, data, protoset, max(8, round(rate * bench.seconds)), words, DEADLINE_S)
        used = cpu.difference(before, cpu.of_parts(system.pids()))
        yield OverloadRun(system.name, number, times, capacity, result, used)


def _messages(system: System, workload: ServingWorkload, folder: Path) -> Path:
    model = system.model(workload)
    messages = (ghz.message(model, tensors) for tensors in system.requests(workload))
    return ghz.write_messages(messages, folder / f"{system.name}-overload.json")


def _report_tails(bench: Bench, runs: Sequence[Run]) -> None:
    rows = []
    for (point, system), several in groups(runs).items():
        if point != "capacity":
            tail = Spread.of(run.p99_ms / run.p50_ms for run in several)
            rows.append([point, system, tail.text])
    bench.report.table(f"W5: p99 to p50 (goal at 90 %: at most {GOAL_P99:g})", ["", "system", "p99 to p50"], rows)


def _report_overload(bench: Bench, overloads: Sequence[OverloadRun]) -> None:
    best = _best(overloads)
    rows = [
        _overload_row(system, times, [run for run in overloads if (run.system, run.times) == (system, times)], best)
        for system, times in dict.fromkeys((run.system, run.times) for run in overloads)
    ]
    title = f"W5: beyond capacity, {DEADLINE_S:g} s deadline (goal at twice: {GOAL_GOODPUT:g} of the best)"
    bench.report.table(title, OVERLOAD_HEAD, rows)
    bench.report.figures("W5 overload", [run.figures() for run in overloads])


def _overload_row(
    system: str, times: float, several: Sequence[OverloadRun], best: Mapping[tuple[str, int], float]
) -> list[str]:
    share = Spread.of(run.goodput / best[system, run.round] for run in several)
    statuses = sum((run.result.counts for run in several[1:]), several[0].result.counts)
    refusals = [run.result.ms(50, ~run.result.good) for run in several if (~run.result.good).any()]
    return [
        *(system, f"{times:g}", f"{Spread.of(run.result.offered for run in several).median:,.0f}"),
        *(f"{Spread.of(run.goodput for run in several).median:,.0f}", share.text),
        f"{Spread.of(run.result.ms(99, run.result.good) for run in several).median:.0f} ms",
        f"{Spread.of(refusals).median:.0f} ms" if refusals else "",
        ", ".join(f"{status} {count:,}" for status, count in statuses.most_common()),
    ]


def _goals(runs: Sequence[Run], overloads: Sequence[OverloadRun]) -> list[Goal]:
    point, best = f"Poisson, {100 * SHARES[-1]:.0f} %", _best(overloads)
    tails = [run.p99_ms / run.p50_ms for run in runs if (run.system, run.point) == (REFERENCE, point)]
    ours = [overload for overload in overloads if (overload.system, overload.times) == (REFERENCE, OFFERED[-1])]
    shares = [overload.goodput / best[overload.system, overload.round] for overload in ours]
    return [
        *at_most(f"W5, {point} of the capacity, p99 to p50", GOAL_P99, Spread.of(tails) if tails else None),
        *at_least("W5, twice the capacity, goodput to the best", GOAL_GOODPUT, Spread.of(shares) if shares else None),
    ]


def _best(overloads: Sequence[OverloadRun]) -> dict[tuple[str, int], float]:
    """Highest answered rate of each system in each round."""
    best: dict[tuple[str, int], float] = {}
    for overload in overloads:
        key = (overload.system, overload.round)
        best[key] = max(best.get(key, 1e-9), overload.goodput, overload.capacity)
    return best
