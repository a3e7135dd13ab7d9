"""Goals of the benchmark, and whether the run reached them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.report import Report
from benchmarks.serving.bench import REFERENCE
from benchmarks.serving.figures.statistics import Spread, ratios
from benchmarks.serving.measurement.lower_bound import BOUND
from benchmarks.serving.measurement.measure import Run
from benchmarks.serving.systems.ensemble import Ensemble
from benchmarks.serving.systems.kserve_transformer import KServeTransformer
from benchmarks.serving.systems.triptych import TriptychGrouped

TRANSFORMER, ENSEMBLE, GROUPED = KServeTransformer.name, Ensemble.name, TriptychGrouped.name
ONE, SIXTEEN, MANY, ORDINARY = "1 caller", "16 callers", "64 callers", "Poisson, 30 %"
VALUES: dict[str, Callable[[Run], float]] = {
    "requests/s": lambda run: run.rate,
    "CPU per request": lambda run: run.cpu_total,
    "p50": lambda run: run.p50_ms,
}


class Ratio(NamedTuple):
    """Goal for a ratio of `system` to `other`: at least `limit` for requests/s, at most `limit` for other figures."""

    workload: str
    point: str
    what: str
    other: str
    limit: float
    system: str = REFERENCE


RATIOS = (
    Ratio("W1", ONE, "requests/s", TRANSFORMER, 1.2),
    Ratio("W1", ONE, "requests/s", TRANSFORMER, 1.6, GROUPED),
    Ratio("W1", ONE, "p50", ENSEMBLE, 1.4),
    Ratio("W1", ONE, "p50", ENSEMBLE, 1.1, GROUPED),
    Ratio("W1", SIXTEEN, "requests/s", ENSEMBLE, 1.5),
    Ratio("W1", MANY, "requests/s", ENSEMBLE, 2.0),
    Ratio("W1", MANY, "requests/s", TRANSFORMER, 7.0),
    Ratio("W1", ONE, "CPU per request", ENSEMBLE, 1.3),
    Ratio("W1", MANY, "CPU per request", ENSEMBLE, 0.4),
    Ratio("W2", MANY, "requests/s", BOUND, 0.94),
    Ratio("W3", MANY, "requests/s", ENSEMBLE, 1.3),
    Ratio("W4", MANY, "requests/s", ENSEMBLE, 1.1),
    Ratio("W4", MANY, "requests/s", TRANSFORMER, 1.6),
    Ratio("W5", ORDINARY, "p50", ENSEMBLE, 1.5),
)


@dataclass(frozen=True)
class Goal:
    """A limit and the measured figure: at least the limit if `least`, else at most."""

    text: str
    limit: float
    least: bool
    found: Spread

    @property
    def reached(self) -> bool:
        """Whether the median of the rounds is within the limit."""
        return self.found.median >= self.limit if self.least else self.found.median <= self.limit

    @property
    def row(self) -> list[str]:
        limit = f"at {'least' if self.least else 'most'} {self.limit:g}"
        return [self.text, limit, self.found.text, "yes" if self.reached else "**no**"]


def at_least(text: str, limit: float, found: Spread | None) -> list[Goal]:
    """A goal of at least the limit; an empty list if nothing was measured."""
    return [Goal(text, limit, True, found)] if found else []


def at_most(text: str, limit: float, found: Spread | None) -> list[Goal]:
    return [Goal(text, limit, False, found)] if found else []


def of_runs(runs: Sequence[Run]) -> Iterator[Goal]:
    """Goals for ratios whose both systems were measured."""
    for wanted in RATIOS:
        of_workload = [run for run in runs if run.workload == wanted.workload]
        value, least = VALUES[wanted.what], wanted.what == "requests/s"
        if found := ratios(of_workload, wanted.system, wanted.other, value, point=wanted.point):
            text = f"{wanted.workload}, {wanted.point}, {wanted.what}: {wanted.system} to {wanted.other}"
            yield Goal(text, wanted.limit, least, found)


def add_to(report: Report, goals: Sequence[Goal]) -> None:
    """Report the goals as a table, if there are any."""
    if goals:
        report.table("Goals", ["", "goal", "measured", "reached"], [goal.row for goal in goals])
        report.figures("goals", {goal.text: {"median": goal.found.median, "reached": goal.reached} for goal in goals})
