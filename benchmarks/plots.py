"""Style of all plots. They need matplotlib, which only the environment `benchmarks` has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#8d6a9f", "#edae49", "#5c5c5c")


def panels(count: int, width: float = 4.2, height: float = 3.6) -> tuple[Figure, list[Any]]:
    """Figure with `count` axes side by side; two in a row if there are more than three."""
    across = count if count <= 3 else 2
    down = -(-count // across)
    figure = Figure(figsize=(width * across, height * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    return figure, [axis for row in axes for axis in row][:count]


def dress(axis: Any, title: str, x: str, y: str) -> None:
    """Set title, axis labels and a grid behind the lines."""
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(color="#eeeeee")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100, metadata={"Software": None})
