"""Failures in a measurement of several systems."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import Report
from benchmarks.serving.bench import Bench
from benchmarks.serving.open_loop import _of_all
from benchmarks.serving.progress_line import ProgressLine
from local.errors import LocalError

NAMES = ["triptych", "ensemble"]


def measured(folder: Path, failing: set[tuple[str, int]]) -> list[tuple[str, int]]:
    nobody: Any = None
    progress = ProgressLine(0, io.StringIO())
    bench = Bench(nobody, folder, Report("serving", "Serving", {}, folder), progress, NAMES, [], 1.0, 4, 0)

    def measure(at: int, number: int) -> Iterator[tuple[str, int]]:
        if (NAMES[at], number) in failing:
            raise LocalError("refused")
        yield NAMES[at], number

    return sorted(_of_all(bench, "W5", NAMES, measure))


@pytest.mark.parametrize("name", NAMES)
def test_one_failure_costs_one_round(tmp_path: Path, name: str) -> None:
    found = measured(tmp_path, {(name, 1)})
    assert found == sorted({(each, number) for each in NAMES for number in range(4)} - {(name, 1)})


def test_a_peer_that_fails_twice_is_asked_no_more(tmp_path: Path) -> None:
    found = measured(tmp_path, {("ensemble", 0), ("ensemble", 1)})
    assert found == [("triptych", number) for number in range(4)]


def test_without_the_reference_there_is_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="refused"):
        measured(tmp_path, {("triptych", 0), ("triptych", 2)})
