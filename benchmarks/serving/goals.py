"""What is to be reached, and what was: one line for each goal that the run has figures for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.report import Report
from benchmarks.serving.bench import REFERENCE, STAGES
from benchmarks.serving.floor import FLOOR
from benchmarks.serving.measure import Run
from benchmarks.serving.statistics import US, Spread, ratios
from benchmarks.serving.systems.ensemble import Ensemble
from benchmarks.serving.systems.kserve_transformer import KServeTransformer

TRANSFORMER, ENSEMBLE = KServeTransformer.name, Ensemble.name


@dataclass(frozen=True)
class Goal:
    """`found` has to be at least the limit, or at most."""

    text: str
    limit: float
    least: bool
    found: Spread

    @property
    def reached(self) -> bool:
        """By the median of the rounds."""
        return self.found.median >= self.limit if self.least else self.found.median <= self.limit

    @property
    def row(self) -> list[str]:
        limit = f"at {'least' if self.least else 'most'} {self.limit:g}"
        return [self.text, limit, self.found.text, "yes" if self.reached else "**no**"]


def at_least(text: str, limit: float, found: Spread | None) -> list[Goal]:
    """None where nothing was found."""
    return [Goal(text, limit, True, found)] if found else []


def at_most(text: str, limit: float, found: Spread | None) -> list[Goal]:
    return [Goal(text, limit, False, found)] if found else []


def of_closed_loops(runs: Sequence[Run]) -> list[Goal]:
    """W1 and W2."""
    w1, w2 = ([run for run in runs if run.workload == name] for name in ("W1", "W2"))
    many = max((run.point for run in w2 if run.system == FLOOR), key=_callers, default="")
    return [
        *at_least(
            "W1, 64 callers, requests/s to KServe's transformer", 6, _ratio(w1, TRANSFORMER, "64 callers", _rate)
        ),
        *at_least("W1, 64 callers, requests/s to Triton's ensemble", 2, _ratio(w1, ENSEMBLE, "64 callers", _rate)),
        *at_least("W1, 16 callers, requests/s to Triton's ensemble", 1.2, _ratio(w1, ENSEMBLE, "16 callers", _rate)),
        *at_most("W1, 64 callers, CPU of preprocess and postprocess, us a request", 90, _stages(w1, "64 callers")),
        *at_most(
            "W1, one caller, p50 to the ensemble's", 1.5, _ratio(w1, ENSEMBLE, "1 caller", lambda run: run.p50_ms)
        ),
        *at_least(f"W2, {many}, requests/s to {FLOOR}", 0.85, _ratio(w2, FLOOR, many, _rate)),
    ]


def tell(report: Report, goals: Sequence[Goal]) -> None:
    """A table, where there are any."""
    if goals:
        report.table("Goals", ["", "goal", "measured", "reached"], [goal.row for goal in goals])
        report.figures("goals", {goal.text: {"median": goal.found.median, "reached": goal.reached} for goal in goals})


def _ratio(runs: Sequence[Run], other: str, point: str, value: Callable[[Run], float]) -> Spread | None:
    return ratios(runs, REFERENCE, other, value, point=point)


def _rate(run: Run) -> float:
    return run.rate


def _stages(runs: Sequence[Run], point: str) -> Spread | None:
    ours = [run for run in runs if run.system == REFERENCE and run.point == point]
    used = [US * sum(seconds for name, seconds in run.cpu.items() if name.startswith(STAGES)) for run in ours]
    return Spread.of(used) if used else None


def _callers(point: str) -> int:
    return int(point.split()[0])
