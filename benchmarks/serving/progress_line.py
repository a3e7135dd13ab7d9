"""Progress line on stderr with the current task and the remaining time."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO


class ProgressLine:
    """Progress line that is rewritten on a terminal, and written anew each time elsewhere."""

    def __init__(self, expected_s: float, out: TextIO | None = None) -> None:
        self._expected_s, self._out = expected_s, out or sys.stderr
        self._start = time.monotonic()

    def show(self, task: str) -> None:
        """Show the current task with elapsed and remaining time."""
        gone = time.monotonic() - self._start
        text = f"{_minutes(gone)}, {_minutes(max(0.0, self._expected_s - gone))} left  {task}"
        self._out.write(f"\r\x1b[K{text}" if self._out.isatty() else f"{text}\n")
        self._out.flush()

    def clear(self) -> None:
        """Remove the line before other output."""
        if self._out.isatty():
            self._out.write("\r\x1b[K")
            self._out.flush()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
