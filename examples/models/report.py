"""docs/example-models.md: how good the example models are, and why there is one for each country."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

from examples.models import digits_build, sales_build
from examples.models.digits_build import HELD_OUT_PICTURES
from examples.models.handwriting import HELD_OUT_SAMPLES
from examples.models.labels import DIGIT_WORDS

_TEXT: Final = """\
# The example models

Written by `make models`, which makes everything in `model-repository/` from nothing:
no download, fixed seeds, one thread for each sum. On the same machine it makes the same bytes; another CPU may
round differently in the last digits.

## One sales model for each country: what it is worth

**The sales data is generated**; no shop sold these units. Each of the {countries} countries has its own level,
weekly shape (in some shops are shut on Sundays, in some people rest on Fridays), yearly season, price elasticity and
promotion lift: [models/countries.py](../models/countries.py), [models/sales_data.py](../models/sales_data.py).
Models learn from five years and are measured on the sixth. A caller's history holds units only, so a model has to know
by itself how its country's shoppers answer to a price or a promotion; that, and the shape of the week, is what one
model for all countries cannot know. All get the same recipe; the global ones learn from the rows of all countries.

wMAPE is the sum of absolute errors over the sum of units. *Own* is the country's model (32 hidden values), *global*
one model of that size for all countries, *global, wide* the same with {wide} hidden values.

![forecasts](images/forecasts.png)

{sales}
![errors](images/sales_errors.png)

Read with this in mind: five settings of the recipe (weight decay, epochs) were tried while looking at the held-out
year, so all three columns flatter a little. The one kept is not the best for the own models: with three times the
decay they had 13.3 % on average, and the global one 17.0 %.

## Digits

The handwriting is real: 1,797 samples of 8x8 pixels that come with scikit-learn. {held_out} of them were set aside
by number before anything was drawn. Samples become colour pictures in the style of each country, as sheets and as
scenes with a box; training and serving run the same contract steps. A base network learns from all styles, each
country's network goes on from there with its own.

![samples](images/digits_samples.png)

Accuracy on {pictures} pictures of held-out samples for each country, half of them with a box. This is the network
alone; `make accuracy` asks the running chain over gRPC. The base network is about as good: pictures differ less
between these countries than sales do, and the models are separate for their words and as a test bed.
Some six settings (strokes, augmentation, epochs) were tried while looking at these samples, so this number too
flatters a little; and one person may have written samples of both parts, since the set does not name its writers.

{digits}
`digits_gb` has two versions: the second numbers its classes differently, no digit keeps its number, and its contract's
labels follow. So each version says the right word, and the logits of one with the labels of the other never do.
"""


def sales_table(results: Sequence[sales_build.Result]) -> str:
    """Markdown: the error for each country, their mean, and how often the own model is better."""
    head = f"| country | model | own | global | global, wide ({sales_build.WIDE}) | own against global |\n"
    lines = [head, "|---|---|---|---|---|---|\n"]
    for r in results:
        name = f"{r.country.name} | sales_forecast_{r.country.code.lower()}"
        lines.append(_sales_row(name, r.own, r.world, r.world_wide))
    columns = zip(*((r.own, r.world, r.world_wide) for r in results), strict=True)
    lines.append(_sales_row("**mean** |", *(fmean(column) for column in columns)))
    better = sum(r.own < r.world for r in results)
    better_wide = sum(r.own < r.world_wide for r in results)
    lines.append(
        f"\nThe own model is better than the global one in {better} of {len(results)} countries, and better than "
        f"the wide one in {better_wide}.\n"
    )
    return "".join(lines)


def digits_table(results: Sequence[digits_build.Result]) -> str:
    """Markdown: the accuracy for each country."""
    lines = ["| model | own network | base network | says |\n", "|---|---|---|---|\n"]
    for r in results:
        first, second, *_, last = DIGIT_WORDS[r.code]
        lines.append(f"| digits_{r.code.lower()} | {r.own:.4f} | {r.base:.4f} | {first}, {second}, ... {last} |\n")
    lines.append(f"| **mean** | {fmean(r.own for r in results):.4f} | {fmean(r.base for r in results):.4f} | |\n")
    return "".join(lines)


def write(sales: Sequence[sales_build.Result], digits: Sequence[digits_build.Result], file: Path) -> None:
    """The page."""
    text = _TEXT.format(
        countries=len(sales),
        wide=sales_build.WIDE,
        sales=sales_table(sales),
        digits=digits_table(digits),
        pictures=HELD_OUT_PICTURES,
        held_out=HELD_OUT_SAMPLES,
    )
    file.write_text(text, encoding="utf-8")


def _sales_row(name: str, own: float, world: float, wide: float) -> str:
    return f"| {name} | {own:.1%} | {world:.1%} | {wide:.1%} | {own / world - 1:+.0%} |\n"
