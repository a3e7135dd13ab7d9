"""Plot of `results.json`: `python -m benchmarks.gpu.plot FOLDER`. Needs matplotlib."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.models import GROUPED, GROUPED_THREADS, SEPARATE

FILE = "gpu.png"
TITLES = {GROUPED: "grouped", GROUPED_THREADS: "grouped, threads", SEPARATE: "separate"}


def draw(folder: Path) -> Path:
    """Draw pictures/s and utilisation of the GPU by preprocess processes."""
    from benchmarks import plots

    points = json.loads((folder / "results.json").read_text())["results"]["points"]
    sizes = list(dict.fromkeys(point["picture"] for point in points))
    figure, axes = plots.panels(2 * len(sizes), 4.8, 3.4)
    for at, size in enumerate(sizes):
        there = [point for point in points if point["picture"] == size]
        # Four panels are drawn two in a row, a row for each size.
        _lines(axes[2 * at], there, _rate, f"{size}: pictures/s", "pictures/s")
        who = "the model executes" if there[0]["gpu_percent"] is None else "the GPU works"
        _lines(axes[2 * at + 1], there, _busy, f"{size}: {who}", "% of the time")
    plots.save(figure, folder / FILE)
    return folder / FILE


def _lines(axis: Any, points: Sequence[Mapping[str, Any]], value: Any, title: str, unit: str) -> None:
    """Draw a line over processes for the separate stages, and a level for each grouped model."""
    from benchmarks import plots

    for colour, model in zip(plots.COLOURS, (SEPARATE, GROUPED, GROUPED_THREADS), strict=False):
        own = [(point["processes"], value(point)) for point in points if point["model"] == model]
        if own and model == SEPARATE:
            axis.plot(*zip(*own, strict=True), marker="o", color=colour, label=TITLES[model])
        elif own:
            axis.axhline(own[0][1], color=colour, linestyle="--", label=TITLES[model])
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)
    plots.dress(axis, title, "preprocess processes", unit)


def _rate(point: Mapping[str, Any]) -> float:
    return float(point["rate"])


def _busy(point: Mapping[str, Any]) -> float:
    """Utilisation of the GPU in percent; without a GPU, that of the model's instances."""
    percent = point["gpu_percent"]
    return float(100 * point["busy"] if percent is None else percent)


if __name__ == "__main__":
    print(draw(Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/results/gpu")))
