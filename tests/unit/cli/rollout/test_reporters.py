"""The reporters of a rollout: the same figures in every form."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console, RenderableType

from triptych_cli.rollout.metrics.counts import Counts
from triptych_cli.rollout.reporters.lines import LineReporter
from triptych_cli.rollout.reporters.live import LiveReporter, render, sparkline
from triptych_cli.rollout.spec import AnalysisResult, ExitStatus, RolloutResult, RolloutSpec, RolloutStatus

OLD = Counts(Counter(OK=950), Counter({0.01: 950, 0.02: 0}), Counter(one=950))
NEW = Counts(Counter(OK=40, INTERNAL=10), Counter({0.01: 0, 0.02: 40}), Counter(one=20, two=20))
STATUS = RolloutStatus(
    "watching", 5, {"3": 95, "4": 5}, OLD, NEW, 42.0, ((0.01, None), (0.01, 0.02)), "a [note] with brackets"
)
SPEC = RolloutSpec("sales_forecast_de", "4", (5, 100), 60, 300, 120)


def shown(what: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(what)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_the_live_panel_has_shares_figures_time_and_note() -> None:
    text = shown(render("sales_forecast_de: version 4", "4", STATUS))
    for part in ("sales_forecast_de: version 4", "watching", "42 s left", "version 3", "95 %", "950", "10 (20.0%)"):
        assert part in text
    assert "50%" in text  # of the answers moved
    assert "a [note] with brackets" in text
    assert "15 ms" in text


def test_a_longer_share_is_a_longer_bar() -> None:
    lines = shown(render("m", "4", STATUS)).splitlines()
    old, new = (next(line for line in lines if f"version {version}" in line) for version in "34")
    assert old.count("█") > 50 > new.count("█") > 1


@pytest.mark.parametrize(
    ("values", "line"), [([0.0, 0.5, 1.0], "▁▅█"), ([None, 1.0], " █"), ([], ""), ([2.0], "█")]
)  # fmt: skip
def test_a_sparkline_goes_from_nothing_to_its_ceiling(values: list[float | None], line: str) -> None:
    assert sparkline(values, 1.0) == line
    assert sparkline(values, 0.0).strip() == ""


def test_the_end_is_the_same_in_the_live_panel_and_in_lines() -> None:
    result = RolloutResult(ExitStatus.ROLLED_BACK, "at 5 %: p99 is [bold]long[/bold]", {"3": 100})
    analysis = AnalysisResult(5, "worse", 12.0, OLD, NEW, ("p99 is long",))
    out, drawn = io.StringIO(), io.StringIO()
    for reporter in (LineReporter(out), LiveReporter(Console(file=drawn, width=120, force_terminal=False))):
        reporter.started(SPEC, "served/de.yaml", {"3": 100})
        reporter.progress(STATUS)
        reporter.step_finished(analysis)
        reporter.finished(result)
    for text in (out.getvalue(), drawn.getvalue()):
        assert "rolled back: at 5 %: p99 is [bold]long[/bold]" in text
        assert "new 50 requests, 20 % failed" in text.replace("new: ", "new ")
        assert "served/de.yaml" in text


def test_a_phase_is_printed_once() -> None:
    out = io.StringIO()
    lines = LineReporter(out)
    for _ in range(5):
        lines.progress(STATUS)
    assert out.getvalue() == "5 %: watching: a [note] with brackets\n"
