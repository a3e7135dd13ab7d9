"""Progress and summary of a job in words."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from triptych_cli.progress import Progress, ProgressReporter, duration_text
from triptych_client import RequestFailed
from triptych_client.jobs import Jobs, JobStatus

EVERY_S = 1.0
JOIN_S = 1.0


class JobProgress:
    """Shows statuses of one job. Rows per second and the time left are those since the first status."""

    def __init__(self, reporter: ProgressReporter) -> None:
        self._reporter, self._first_s = reporter, 0.0
        self._first: JobStatus | None = None

    def show(self, status: JobStatus) -> None:
        """Show the progress of this moment."""
        now_s = time.monotonic()
        if self._first is None:
            self._first, self._first_s = status, now_s
        text = progress_text(status, self._first, now_s - self._first_s)
        total = status.parts if status.state != "planning" else None
        self._reporter.show(Progress(text, status.committed, total, status.has_ended))


class StatusWatch:
    """Shows the progress of a job every second, in a thread, until the end of the block."""

    def __init__(self, jobs: Jobs, job: str, progress: JobProgress) -> None:
        self._jobs, self._job, self._progress = jobs, job, progress
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(RequestFailed):  # whoever follows the job reports it
                self._progress.show(self._jobs.get(self._job))
            self._ended.wait(EVERY_S)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(JOIN_S)  # so that no line comes behind the last one


def progress_text(status: JobStatus, first: JobStatus, seconds: float) -> str:
    """`running: 1,200 rows, 3 of 20 parts, 640 rows/s, 2 bad rows, 14 s left`; `seconds` are those since `first`."""
    more = "+" if status.state == "planning" else ""
    parts = [f"{status.rows:,} rows", f"{status.committed:,} of {status.parts:,}{more} parts"]
    rows, done = status.rows - first.rows, status.committed - first.committed
    if rows > 0 and seconds > 0:
        rate = rows / seconds
        parts.append(f"{rate:,.{0 if rate >= 10 else 1}f} rows/s")
    if status.bad_rows:
        parts.append(bad_rows_text(status.bad_rows))
    left = status.parts - status.committed
    if done > 0 and left and not more and not status.has_ended:
        parts.append(f"{duration_text(seconds * left / done)} left")
    return f"{status.state}: {', '.join(parts)}"


def rows_text(rows: int, bad_rows: int) -> str:
    """`1,200 rows`, and `, 1 bad row` if there is one."""
    return f"{rows:,} rows" + (f", {bad_rows_text(bad_rows)}" if bad_rows else "")


def bad_rows_text(count: int) -> str:
    """`1 bad row`, `2 bad rows`."""
    return f"{count:,} bad row{'s' if count > 1 else ''}"
