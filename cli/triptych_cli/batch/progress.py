"""Progress of a run in words."""

from __future__ import annotations

from jobs.batch.progress import RunProgress
from triptych_cli.progress import Progress, ProgressReporter, duration_text


class RunReporter:
    """Shows the progress of a run."""

    def __init__(self, reporter: ProgressReporter) -> None:
        self._reporter, self._is_first = reporter, True

    def show(self, progress: RunProgress) -> None:
        """Show the progress of this moment."""
        if self._is_first and progress.resumed_rows:
            self._reporter.note(f"goes on behind {progress.resumed_rows} rows that are committed")
        self._is_first = False
        is_last = progress.committed_parts == progress.parts
        self._reporter.show(Progress(progress_text(progress), progress.done, progress.rows, is_last))


def progress_text(progress: RunProgress) -> str:
    """`1,200 of 10,000 rows, 3 of 20 parts, 640 rows/s, 2 bad rows, 14 s left`."""
    rows = f"{progress.done:,}" + (f" of {progress.rows:,}" if progress.rows is not None else "")
    parts = [f"{rows} rows", f"{progress.committed_parts:,} of {progress.parts:,} parts"]
    if progress.asked:
        parts.append(f"{progress.rows_per_s:,.0f} rows/s")
    if progress.bad_rows:
        parts.append(f"{progress.bad_rows:,} bad rows")
    if progress.left_s and progress.committed_parts < progress.parts:
        parts.append(f"{duration_text(progress.left_s)} left")
    return ", ".join(parts)
