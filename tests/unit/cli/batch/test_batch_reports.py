"""Lines of `triptych batch run` and `plan`, and a package that is missing."""

from __future__ import annotations

import io
import sys

import pytest

from jobs.batch.estimate import Estimate
from jobs.batch.progress import RunProgress
from triptych_cli.batch import command
from triptych_cli.batch.plan import lines_of
from triptych_cli.batch.progress import RunReporter, progress_text
from triptych_cli.progress import ProgressLines, duration_text


def test_a_line_has_rows_parts_rate_bad_rows_and_the_time_left() -> None:
    progress = RunProgress(
        parts=20, rows=10_000, committed_parts=3, bad_rows=2, asked=1000, resumed_rows=200, seconds=2
    )
    assert progress_text(progress) == "1,200 of 10,000 rows, 3 of 20 parts, 500 rows/s, 2 bad rows, 18 s left"
    assert progress_text(RunProgress(parts=2, rows=None)) == "0 rows, 0 of 2 parts"


def test_lines_come_every_few_seconds_and_at_the_end() -> None:
    out, now = io.StringIO(), [0.0]
    lines = RunReporter(ProgressLines(out, "batch", lambda: now[0]))
    progress = RunProgress(parts=2, rows=10, resumed_rows=4)
    for now[0] in (0.0, 0.5, 1.0, 5.5):
        lines.show(progress)
    progress.committed_parts = 2
    lines.show(progress)
    assert out.getvalue().splitlines() == [
        "batch: goes on behind 4 rows that are committed",
        "batch: 4 of 10 rows, 0 of 2 parts",
        "batch: 4 of 10 rows, 0 of 2 parts",
        "batch: 4 of 10 rows, 2 of 2 parts",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(4.21, "4.2 s"), (42.4, "42 s"), (720, "12 min"), (12_600, "3.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("deadline_s", "workers"), [(3600, "3 such machines for 60 min"), (36_000, "1 such machine for 10.0 h")]
)
def test_an_estimate_names_the_workers_for_a_deadline(deadline_s: float, workers: str) -> None:
    found = Estimate("sales_de", 3, "csv", 2, 3 << 20, 7, 9_000_000, 5000, 1000.0)
    assert lines_of(found, deadline_s) == [
        "model    sales_de, version 3",
        "dataset  2 files of csv, 3.0 MiB, 9,000,000 rows",
        "parts    7",
        "time     2.5 h on this machine, by a sample of 5,000 rows at 1,000 rows/s",
        f"workers  {workers}",
    ]


def test_a_missing_package_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("jobs", "triptych_cli.batch.r"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jobs", None)
    assert command.main(["run", "nightly.yaml"]) == 1
    assert "is missing; pip install './client[local]' './services/jobs[query]'" in capsys.readouterr().err
