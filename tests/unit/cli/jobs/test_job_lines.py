"""Lines of `triptych jobs`: progress, summary, and a package that is missing."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from triptych_cli.jobs import command
from triptych_cli.jobs.progress import JobProgress, progress_text
from triptych_cli.jobs.show import job_lines, table_lines
from triptych_cli.progress import ProgressBarReporter, ProgressLines
from triptych_cli.summary import summary_text
from triptych_client.jobs import JobStatus

RUNNING = JobStatus(
    name="jobs/1",
    state="running",
    request_id="r",
    model="ct",
    version=3,
    parts=20,
    committed=3,
    rows=1200,
    bad_rows=2,
    created_s=1_780_000_000.0,
    started_s=1_780_000_001.0,
    ended_s=0.0,
    expires_s=0.0,
    background=False,
    summary={"bone_ml": {"sum": 3.5, "rows": 1200}},
    error="",
    manifest="",
)


@pytest.mark.parametrize(
    ("changes", "first", "seconds", "text"),
    [
        ({}, {"committed": 1, "rows": 200}, 2.0,
         "running: 1,200 rows, 3 of 20 parts, 500 rows/s, 2 bad rows, 17 s left"),
        ({}, {"rows": 1195}, 2.0, "running: 1,200 rows, 3 of 20 parts, 2.5 rows/s, 2 bad rows"),
        ({"bad_rows": 1}, {}, 0.0, "running: 1,200 rows, 3 of 20 parts, 1 bad row"),
        ({"state": "planning"}, {"committed": 1}, 2.0, "planning: 1,200 rows, 3 of 20+ parts, 2 bad rows"),
        ({"state": "failed"}, {"committed": 1}, 2.0, "failed: 1,200 rows, 3 of 20 parts, 2 bad rows"),
    ],
)  # fmt: skip
def test_a_line_has_rows_parts_rate_errors_and_the_time_left(
    changes: dict[str, Any], first: dict[str, Any], seconds: float, text: str
) -> None:
    assert progress_text(replace(RUNNING, **changes), replace(RUNNING, **first), seconds) == text


def test_lines_come_every_few_seconds_and_at_the_end() -> None:
    out, now = io.StringIO(), [0.0]
    progress = JobProgress(ProgressLines(out, "jobs", lambda: now[0]))
    for now[0] in (0.0, 1.0, 2.0):
        progress.show(RUNNING)
    progress.show(replace(RUNNING, state="succeeded", committed=20))
    assert [line.partition(":")[2].split(":")[0] for line in out.getvalue().splitlines()] == [" running", " succeeded"]


def test_a_terminal_has_a_bar_that_goes_away_and_notes_that_stay() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with ProgressBarReporter(console, "jobs") as reporter:
        JobProgress(reporter).show(RUNNING)
        reporter.note("[goes] on")
    shown: Any = console.file
    assert "3 of 20 parts" in shown.getvalue()
    assert "jobs: [goes] on" in shown.getvalue()


def test_a_job_has_a_fact_a_line() -> None:
    lines = job_lines(RUNNING)
    assert "rows        1,200, 2 bad rows" in lines
    assert "summary     sum of bone_ml 3.5" in lines
    assert not [line for line in lines if line.startswith(("ended", "error", "took"))]
    took = replace(RUNNING, state="failed", ended_s=1_780_000_011.0, error="part 1 failed\x1b[2J")
    assert "took        10 s" in job_lines(took)
    assert "\x1b" not in "".join([*job_lines(took), *table_lines([replace(RUNNING, model="\x1b[2J")])])


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        ({}, ""),
        ({"total": {"sum": 12345, "rows": 3}}, "sum of total 12,345"),
        ({"units": {"mean": [0.5, "nan", None], "rows": 3}}, "mean of units 0.5, nan, None"),
        (
            {"label": {"vote": "8", "votes": {"8": 2, "3": 1}, "rows": 3}, "n": {"count": 3, "rows": 3}},
            "vote of label 8 (2 of 3), count of n 3",
        ),
        ({"label": {"vote": None, "reason": "more than 1000 values", "rows": 3}}, "vote of label None"),
        ({"label": {"vote": "\x1b[2J", "votes": {"\x1b[2J": 1}, "rows": 1}}, None),
    ],
)
def test_a_summary_in_words(summary: dict[str, Any], text: str | None) -> None:
    found = summary_text(summary)
    assert "\x1b" not in found
    assert text is None or found == text


def test_a_missing_package_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("triptych_client", "triptych_cli.jobs.s"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    assert command.main(["submit", "job.yaml"]) == 1
    assert "google_crc32c is missing; pip install ./services/triptych ./client" in capsys.readouterr().err
