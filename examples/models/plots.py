"""Plots of the models' inputs and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from examples.models.contracts import PICTURE_PIXELS
from examples.models.countries import HISTORY_DAYS, HORIZON_DAYS, country
from examples.models.digits.handwriting import Handwriting, split
from examples.models.digits.render import Rendered, render
from examples.models.labels import DIGIT_WORDS
from examples.models.sales import train as sales_train
from examples.models.sales.build import Sales, SalesResult
from examples.models.sales.data import FIRST_HELD_OUT_DAY, Series, windows

SHOWN_COUNTRIES: Final = ("DE", "US", "JP", "FR", "EG", "BR")
_OWN, _POOLED, _PAST = "#1f5fbf", "#d9822b", "#888888"

matplotlib.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def forecasts(sales: Sales, file: Path) -> None:
    """One week with a promotion for a few countries: history, truth, own model, global model."""
    figure = Figure(figsize=(13, 6.6), layout="constrained")
    axes = figure.subplots(2, 3)
    for axis, code in zip(axes.flat, SHOWN_COUNTRIES, strict=True):
        _forecast(axis, sales, code)
    for axis in axes[:, 0]:
        axis.set_ylabel("units a day")
    for axis in axes[1]:
        axis.set_xlabel("days from the first day of the forecast")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle("Seven days from the held-out year (generated data)", fontsize=12)
    _save(figure, file)


def errors(results: list[SalesResult], file: Path) -> None:
    """The error of each country's own model and of the global one."""
    ordered = sorted(results, key=lambda result: result.pooled - result.own)
    figure = Figure(figsize=(7.5, 9.5), layout="constrained")
    axis = figure.subplots()
    for row, result in enumerate(ordered):
        axis.plot([100 * result.own, 100 * result.pooled], [row, row], color="#cccccc", zorder=1)
    rows = range(len(ordered))
    axis.scatter([100 * r.own for r in ordered], rows, color=_OWN, s=24, label="the country's own model")
    axis.scatter([100 * r.pooled for r in ordered], rows, color=_POOLED, s=24, label="one model for all countries")
    axis.set_yticks(rows, [result.country.name for result in ordered])
    axis.set_ylim(-0.8, len(ordered) - 0.2)
    axis.set_xlim(left=0)
    axis.set_xlabel("error on the held-out year, wMAPE in % (generated data)")
    axis.set_title("What a model of its own is worth to each country")
    axis.legend(loc="lower left", frameon=False)
    axis.grid(axis="x", color="#eeeeee")
    axis.set_axisbelow(True)
    _save(figure, file)


def digits_samples(file: Path) -> None:
    """A picture of each digit for each country, and the steps from a photograph to the model's input."""
    samples = split()[1]
    figure = Figure(figsize=(11.5, 9.2), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.45, 1])
    upper, lower = parts
    grid = upper.subplots(len(DIGIT_WORDS), 10)
    for row, code in enumerate(DIGIT_WORDS):
        for digit in range(10):
            number = int(np.flatnonzero(samples.digits == digit)[row])
            _show(grid[row, digit], _card(render(samples.images[number], code, f"sample {digit}", boxed=False).picture))
            if row == 0:
                grid[row, digit].set_title(str(digit))
        grid[row, 0].set_ylabel(f"digits_{code.lower()}", fontsize=10)
    upper.suptitle("Held-out handwriting in the style of each country", fontsize=12)
    _preparation(lower, samples)
    _save(figure, file, dots_per_inch=80)  # noise does not compress: at 100 it is a megabyte


def example_week(series: Series) -> int:
    """First day of the first held-out forecast, from mid-year on, with two to five days of promotion."""
    for day in range(FIRST_HELD_OUT_DAY + 150, len(series.units) - HORIZON_DAYS):
        if 2 <= series.promotion[day : day + HORIZON_DAYS].sum() <= 5:
            return day
    raise ValueError("no promotion in half a year")


def _forecast(axis: Any, sales: Sales, code: str) -> None:
    series = sales.series[code]
    start = example_week(series)
    week = windows(series, start, start + 1)
    past, ahead = np.arange(-HISTORY_DAYS, 0), np.arange(HORIZON_DAYS)
    label = "promotion"
    for day in ahead[series.promotion[start : start + HORIZON_DAYS]]:
        axis.axvspan(day - 0.5, day + 0.5, color="#f6e8b8", lw=0, label=label)
        label = "_"
    axis.plot(past, week.features[0, :HISTORY_DAYS], color=_PAST, lw=1.2, label="history")
    axis.plot(ahead, week.target[0], "o", color="black", ms=4.5, label="what came")
    axis.plot(ahead, sales_train.forecast(sales.networks[code], week.features)[0], color=_OWN, lw=2, label="own model")
    axis.plot(
        ahead, sales_train.forecast(sales.pooled, week.features)[0], "--", color=_POOLED, lw=1.6, label="global model"
    )
    axis.set_ylim(bottom=0)
    axis.set_xticks([-28, -21, -14, -7, 0, 6])
    axis.set_title(f"{country(code).name} (sales_forecast_{code.lower()})", fontsize=10)


def _preparation(figure: Any, samples: Handwriting) -> None:
    number = int(np.flatnonzero(samples.digits == 7)[4])
    shot: Rendered = render(samples.images[number], "GB", "the way in 640", boxed=True)
    assert shot.box is not None
    x, y, width, height = shot.box
    axes = figure.subplots(1, 5, width_ratios=[1.6, 1, 1, 1, 1])
    marked = cv2.rectangle(shot.picture.copy(), (x, y), (x + width, y + height), (255, 0, 0), 3)
    cut = shot.picture[y : y + height, x : x + width]
    seen = cv2.resize(cv2.cvtColor(cut, cv2.COLOR_RGB2HSV), (PICTURE_PIXELS,) * 2, interpolation=cv2.INTER_AREA)
    tall, wide = shot.picture.shape[:2]
    _show(axes[0], marked)
    axes[0].set_title(f"the caller's picture, {wide}x{tall}, and box")
    _show(axes[1], cut)
    axes[1].set_title(f"crop, {width}x{height}")
    for axis, channel, name in zip(axes[2:], range(3), ("hue", "saturation", "value"), strict=True):
        colours = {"cmap": "hsv", "vmin": 0, "vmax": 179} if name == "hue" else {"cmap": "gray", "vmin": 0, "vmax": 255}
        axis.imshow(seen[..., channel], **colours)
        _bare(axis)
        axis.set_title(f"{name}, {PICTURE_PIXELS}x{PICTURE_PIXELS}")
    figure.suptitle("What preprocess makes of a picture: the model's three input channels", fontsize=12)


def _card(picture: Any) -> Any:
    return cv2.resize(picture, (120, 120), interpolation=cv2.INTER_AREA)


def _show(axis: Any, picture: Any) -> None:
    axis.imshow(picture)
    _bare(axis)


def _bare(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def _save(figure: Figure, file: Path, dots_per_inch: int = 100) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=dots_per_inch, metadata={"Software": None})
