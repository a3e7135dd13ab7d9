"""Tables of `results.md`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.report import Report
from benchmarks.serving.figures import pictures
from benchmarks.serving.figures.statistics import US, cpu_medians, groups, medians, ratios
from benchmarks.serving.measurement.measure import Run
from benchmarks.serving.workloads import ServingWorkload


def add_to(report: Report, workload: ServingWorkload, runs: Sequence[Run], reference: str) -> None:
    """Report one workload: medians, ratios, CPU by process, and a plot."""
    _medians(report, workload, runs)
    _ratios(report, workload, runs, reference)
    _cpu(report, workload, runs)
    pictures.draw(report, workload.name, runs)
    report.figures(workload.name, [asdict(run) | {"cpu_total": run.cpu_total} for run in runs])


def _medians(report: Report, workload: ServingWorkload, runs: Sequence[Run]) -> None:
    rows: list[Sequence[Any]] = []
    for (point, system), several in groups(runs).items():
        middle = medians(several)
        rows.append(
            [
                *(point, system, f"{middle['rate']:,.0f}"),
                *(_ms(middle[name]) for name in ("p50_ms", "p99_ms")),
                *(str(sum(run.errors for run in several)), f"{middle['cpu_total']:.3f} s"),
                *(f"{middle['load_cpu']:.3f} s", f"{100 * middle['others']:.0f} %"),
            ]
        )
    head = ["", "system", "requests/s", "p50", "p99", "errors", "CPU for 1,000", "load's CPU for 1,000", "neighbours"]
    report.table(f"{workload.name}, {workload.title}: medians of the rounds", head, rows)


def _ms(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f} ms"


def _ratios(report: Report, workload: ServingWorkload, runs: Sequence[Run], reference: str) -> None:
    rows: list[Sequence[Any]] = []
    for point, system in groups(runs):
        if system == reference:
            continue
        found = [
            ratios(runs, reference, system, lambda run, name=name: float(getattr(run, name)), point=point)  # type: ignore[misc]
            for name in ("rate", "cpu_total", "p50_ms", "p99_ms")
        ]
        if any(found):
            rows.append([point, system, *(each.text if each else "" for each in found)])
    if rows:
        head = ["", f"{reference} to", "requests/s", "CPU per request", "p50", "p99"]
        report.table(f"{workload.name}: ratios within a round, median (least..most)", head, rows)


def _cpu(report: Report, workload: ServingWorkload, runs: Sequence[Run]) -> None:
    rows: list[Sequence[Any]] = []
    for (point, system), several in groups(runs).items():
        parts = cpu_medians(several)
        rows.append([point, system, ", ".join(f"{name} {US * seconds:.0f}" for name, seconds in parts.items())])
    report.table(f"{workload.name}: CPU of each process, microseconds a request", ["", "system", "processes"], rows)
