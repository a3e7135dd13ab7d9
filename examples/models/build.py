"""Build of all outputs: model folders, pictures, example requests, the report and the held-out handwriting."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from examples.models import example_requests, plots, report
from examples.models.countries import COUNTRY_CODES
from examples.models.digits import build as digits_build
from examples.models.digits.handwriting import HELD_OUT_FILE, split, write_held_out
from examples.models.labels import DIGIT_WORDS
from examples.models.progress import TaskProgress
from examples.models.sales import build as sales_build

ROOT = Path(__file__).resolve().parents[2]


def build(only: str, out: Path) -> int:
    """Write below `out`; pictures and report only if all models are built. Returns 2 if no model's name matches."""
    sales_codes = _chosen("sales_forecast", COUNTRY_CODES, only)
    digits_codes = _chosen("digits", tuple(DIGIT_WORDS), only)
    if not sales_codes and not digits_codes:
        print(f"no model is called '{only}'; they are sales_forecast_<cc> and digits_<cc>")
        return 2
    progress, repository = TaskProgress(), out / "model-repository"
    # spawn, not fork: a forked process with JAX's threads can deadlock
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, min(2, os.cpu_count() or 1)), mp_context=spawn) as pool:
        digits = digits_build.build(digits_codes, repository, pool, progress) if digits_codes else []
    sales = sales_build.build(sales_codes, repository, progress) if sales_codes else None
    if sales is not None:
        print(report.sales_table(sales.results), end="")
    if digits:
        print(report.digits_table(digits), end="")
    if only == "*" and sales is not None:
        _write_the_rest(sales, digits, out, progress)
    return 0


def _write_the_rest(
    sales: sales_build.Sales, digits: Sequence[digits_build.DigitsResult], out: Path, progress: TaskProgress
) -> None:
    progress.begin("pictures, examples and report")
    write_held_out(split()[1], out / HELD_OUT_FILE.relative_to(ROOT))
    plots.forecasts(sales, out / "docs/images/forecasts.png")
    plots.errors(sales.results, out / "docs/images/sales_errors.png")
    plots.digits_samples(out / "docs/images/digits_samples.png")
    example_requests.write(sales.series, split()[1], out / "examples/data")
    report.write(sales.results, digits, out / "docs/reference/example-models.md")
    progress.end()


def _chosen(family: str, codes: Sequence[str], only: str) -> list[str]:
    return [code for code in codes if fnmatch(f"{family}_{code.lower()}", only)]
