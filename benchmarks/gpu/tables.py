"""Tables and figures of the points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.gpu.measure import TITLES, Point
from benchmarks.gpu.models import SEPARATE
from benchmarks.report import Report

HEAD = [
    *("", "preprocess processes", "callers", "pictures/s", "p50", "p99", "GPU works (nvidia-smi)", "model executes"),
    *("rows per execution", "cores"),
]


def figures(report: Report, points: Sequence[Point]) -> None:
    """Add the points to `results.json`, from which the plot is drawn."""
    report.figures("points", [asdict(point) for point in points])


def add_to(report: Report, points: Sequence[Point], faults: Sequence[str]) -> None:
    """Report a table for each picture size, and the failures."""
    for picture in dict.fromkeys(point.picture for point in points):
        report.table(f"Pictures of {picture}", HEAD, [_row(each) for each in points if each.picture == picture])
    for fault in faults:
        report.text(f"**Not measured:** {fault}")


def _row(point: Point) -> list[str | int]:
    cores = ", ".join(f"{name} {value:.2f}" for name, value in point.cores.items())
    return [
        *(TITLES[point.model], point.processes if point.model == SEPARATE else "", point.callers),
        *(f"{point.rate:,.1f}", f"{point.p50_ms:.0f} ms", f"{point.p99_ms:.0f} ms"),
        "not reported" if point.gpu_percent is None else f"{point.gpu_percent:.0f} %",
        *(f"{100 * point.busy:.0f} %", f"{point.rows_per_execution:.1f}", cores),
    ]
