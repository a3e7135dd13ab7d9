"""Aggregation of runs: medians of a system, and ratios of two systems within a round."""

from __future__ import annotations

import math
import statistics as plain
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.serving.measurement.measure import Run

US = 1000  # microseconds per request in one CPU second per 1,000 requests


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of several values."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise values. Raises `ValueError` if there are none."""
        known = sorted(values)
        if not known:
            raise ValueError("no values to summarise")
        return cls(plain.median(known), known[0], known[-1], len(known))

    @property
    def text(self) -> str:
        """Text such as `2.10 (1.95..2.30)`."""
        if self.count == 1:
            return f"{self.median:.2f}"
        return f"{self.median:.2f} ({self.least:.2f}..{self.most:.2f})"


def ratios(
    runs: Sequence[Run], system: str, other: str, value: Callable[[Run], float], *, point: str = ""
) -> Spread | None:
    """Ratios of `value` between two systems within each round; None if they share no round."""

    def by_round(name: str) -> dict[tuple[str, int], Run]:
        return {(run.point, run.round): run for run in runs if run.system == name and point in ("", run.point)}

    ours, theirs = by_round(system), by_round(other)
    found = [value(run) / value(theirs[key]) for key, run in ours.items() if key in theirs and value(theirs[key])]
    found = [ratio for ratio in found if not math.isnan(ratio)]
    return Spread.of(found) if found else None


def groups(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """Runs by point and system, in their order."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        found.setdefault((run.point, run.system), []).append(run)
    return found


def medians(runs: Sequence[Run]) -> dict[str, float]:
    """Medians of the figures over several runs of one system at one point."""
    return {
        name: plain.median(getattr(run, name) for run in runs)
        for name in ("rate", "p50_ms", "p90_ms", "p99_ms", "cpu_total", "load_cpu", "others")
    }


def cpu_medians(runs: Sequence[Run]) -> dict[str, float]:
    """Median CPU seconds per 1,000 requests of each process; a process missing in a run counts as 0."""
    names = sorted({name for run in runs for name in run.cpu})
    return {name: plain.median(run.cpu.get(name, 0.0) for run in runs) for name in names}
