"""Overview table of `results.md`: a lone request, ordinary load, the limit, and many models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.report import Report
from benchmarks.serving.figures.goals import ENSEMBLE, MANY, ONE, ORDINARY, VALUES
from benchmarks.serving.figures.statistics import medians, ratios
from benchmarks.serving.measurement.measure import Run


class Column(NamedTuple):
    """One figure of each system, from the runs of a workload at a point."""

    title: str
    workload: str
    point: str
    what: str
    shown: Callable[[dict[str, float]], str]


def _p50(middle: dict[str, float]) -> str:
    return f"{middle['p50_ms']:.2f} ms"


def _rate(middle: dict[str, float]) -> str:
    return f"{middle['rate']:,.0f}"


COLUMNS = (
    Column("p50 alone", "W1", ONE, "p50", _p50),
    Column("p50 at 30 % load", "W5", ORDINARY, "p50", _p50),
    Column("requests/s, 64 callers", "W1", MANY, "requests/s", _rate),
    Column("requests/s, many models", "W4", MANY, "requests/s", _rate),
)


def add_to(report: Report, runs: Sequence[Run]) -> None:
    """Report medians of each system, with their ratio to the ensemble within a round in brackets."""
    columns = [column for column in COLUMNS if _of(runs, column)]
    if columns:
        systems = list(dict.fromkeys(run.system for column in columns for run in _of(runs, column)))
        rows = [[name, *(_cell(_of(runs, column), name, column) for column in columns)] for name in systems]
        title = f"Overview: medians, and the ratio to {ENSEMBLE} within a round"
        report.table(title, ["system", *(column.title for column in columns)], rows)


def _of(runs: Sequence[Run], column: Column) -> list[Run]:
    return [run for run in runs if (run.workload, run.point) == (column.workload, column.point)]


def _cell(runs: Sequence[Run], system: str, column: Column) -> str:
    """Table cell of a system; empty if it was not measured."""
    own = [run for run in runs if run.system == system]
    if not own:
        return ""
    shown = column.shown(medians(own))
    ratio = ratios(runs, system, ENSEMBLE, VALUES[column.what]) if system != ENSEMBLE else None
    return f"{shown} ({ratio.median:.2f})" if ratio else shown
