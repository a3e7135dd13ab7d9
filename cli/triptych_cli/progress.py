"""Progress of a command that lasts: one line that is redrawn in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

LINE_S = 5.0  # between two lines


@dataclass(frozen=True)
class Progress:
    """The state of work in words: `done` of `total`, None if that is unknown. The last one is always shown."""

    text: str
    done: int
    total: int | None
    is_last: bool = False


class ProgressReporter(Protocol):
    """Shows progress; a context manager."""

    def show(self, progress: Progress) -> None:
        """Show the progress of this moment."""

    def note(self, text: str) -> None:
        """Show a line that stays."""

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

    def show(self, progress: Progress) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class ProgressLines(_PlainReporter):
    """Writes a line every few seconds, and the last one."""

    def __init__(self, out: TextIO, prefix: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._prefix, self._clock = out, prefix, clock
        self._next_s = 0.0

    def show(self, progress: Progress) -> None:
        if progress.is_last or self._clock() >= self._next_s:
            self._next_s = self._clock() + LINE_S
            self.note(progress.text)

    def note(self, text: str) -> None:
        self._out.write(f"{self._prefix}: {text}\n")
        self._out.flush()


class ProgressBarReporter(_PlainReporter):
    """Redraws one line with a bar."""

    def __init__(self, console: Console, prefix: str) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._console, self._prefix = console, prefix

    def show(self, progress: Progress) -> None:
        line = Table.grid(padding=(0, 1))
        line.add_row(ProgressBar(progress.total or None, progress.done, width=30), progress.text)
        self._live.update(line)

    def note(self, text: str) -> None:
        self._console.print(f"{self._prefix}: {text}", markup=False, highlight=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def reporter_of(prefix: str, *, quiet: bool) -> ProgressReporter:
    """The reporter for this process: on standard error, which may be a terminal or not."""
    if quiet:
        return QuietReporter()
    console = Console(stderr=True)
    return ProgressBarReporter(console, prefix) if console.is_terminal else ProgressLines(sys.stderr, prefix)


def duration_text(seconds: float) -> str:
    """`4.2 s`, `42 s`, `12 min`, `3.5 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
