"""RunProgress of a run: a bar in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from jobs.batch.progress import RunProgress

LINE_S = 5.0  # between two lines


class RunReporter(Protocol):
    """Shows the progress of a run; a context manager."""

    def show(self, progress: RunProgress) -> None:
        """Show the progress of this moment."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _PlainReporter:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class QuietReporter(_PlainReporter):
    """Shows nothing."""

    def show(self, progress: RunProgress) -> None:
        pass


class ProgressLines(_PlainReporter):
    """Writes a line every few seconds, and one at the end."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._next_s, self._is_first = 0.0, True

    def show(self, progress: RunProgress) -> None:
        is_last = progress.committed_parts == progress.parts
        if self._is_first and progress.resumed_rows:
            self._write(f"goes on behind {progress.resumed_rows} rows that are committed")
        self._is_first = False
        if is_last or self._clock() >= self._next_s:
            self._next_s = self._clock() + LINE_S
            self._write(progress_text(progress))

    def _write(self, text: str) -> None:
        self._out.write(f"batch: {text}\n")
        self._out.flush()


class ProgressBarReporter(_PlainReporter):
    """Redraws one line with a bar."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def show(self, progress: RunProgress) -> None:
        line = Table.grid(padding=(0, 1))
        line.add_row(ProgressBar(progress.rows or None, progress.done, width=30), progress_text(progress))
        self._live.update(line)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def reporter_of(*, quiet: bool) -> RunReporter:
    """The reporter for this process: on standard error, which may be a terminal or not."""
    if quiet:
        return QuietReporter()
    console = Console(stderr=True)
    return ProgressBarReporter(console) if console.is_terminal else ProgressLines(sys.stderr)


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


def duration_text(seconds: float) -> str:
    """`4.2 s`, `42 s`, `12 min`, `3.5 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
