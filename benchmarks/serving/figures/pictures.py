"""Plots of `results.md`: requests/s and CPU per request, by system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.report import Report
from benchmarks.serving.figures.statistics import US, cpu_medians, groups, medians
from benchmarks.serving.measurement.measure import Run


def draw(report: Report, name: str, runs: Sequence[Run]) -> None:
    """Draw bars: left requests/s at every point, right CPU microseconds of every process at the first point."""
    from benchmarks import plots

    by = groups(runs)
    points = list(dict.fromkeys(point for point, _ in by))
    systems = list(dict.fromkeys(system for _, system in by))
    figure, (left, right) = plots.panels(2, 5.6, 3.8)
    width = 0.8 / len(systems)
    for place, system in enumerate(systems):
        there = [at for at, point in enumerate(points) if (point, system) in by]
        rates = [medians(by[points[at], system])["rate"] for at in there]
        colour = plots.COLOURS[place % len(plots.COLOURS)]
        left.bar([at + place * width for at in there], rates, width, color=colour, label=system)
    left.set_xticks([at + 0.4 - width / 2 for at in range(len(points))], points, fontsize=7)
    left.legend(frameon=False, fontsize=8)
    plots.dress(left, f"{name}: requests/s", "", "requests/s")
    _stack(right, {system: cpu_medians(by[points[0], system]) for system in systems if (points[0], system) in by})
    plots.dress(right, f"{name}, {points[0]}: CPU of a request", "microseconds", "")
    plots.save(figure, report.plot(f"{name.lower()}.png", f"requests/s and CPU of a request, {name}"))


def _stack(axis: Any, parts: dict[str, dict[str, float]]) -> None:
    """Draw a bar for each system, stacked by process."""
    from benchmarks import plots

    names = sorted({name for each in parts.values() for name in each})
    colours = {name: plots.COLOURS[at % len(plots.COLOURS)] for at, name in enumerate(names)}
    shades = {name: 1.0 - 0.45 * (at // len(plots.COLOURS)) for at, name in enumerate(names)}
    for row, each in enumerate(reversed(parts.values())):
        start = 0.0
        for name, seconds in each.items():
            axis.barh(row, US * seconds, left=start, color=colours[name], alpha=shades[name])
            start += US * seconds
    axis.set_yticks(range(len(parts)), list(reversed(parts)), fontsize=8)
    for name in names:
        axis.barh(0, 0, color=colours[name], alpha=shades[name], label=name)
    axis.legend(frameon=False, fontsize=6)
