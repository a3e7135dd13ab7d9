"""Progress of a task in one line: its name, its share and its duration."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")


class TaskProgress:
    """A line that is rewritten on a terminal; elsewhere each finished line is written once."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._task, self._start = "", 0.0

    def begin(self, task: str) -> None:
        """End the last task and start another."""
        self.end()
        self._task, self._start = task, time.monotonic()
        self._live(task)

    def end(self) -> None:
        """End the last task."""
        if self._task:
            clear = "\r\x1b[K" if self._out.isatty() else ""
            self._out.write(f"{clear}{time.monotonic() - self._start:7.1f} s  {self._task}\n")
            self._out.flush()
            self._task = ""

    def over(self, task: str, items: Iterator[T], total: int) -> Iterator[T]:
        """Yield the items, and count them."""
        self.begin(task)
        for number, item in enumerate(items, start=1):
            yield item
            self._live(f"{task} {number}/{total}")
        self.end()

    def _live(self, text: str) -> None:
        if self._out.isatty():
            self._out.write(f"\r\x1b[K{time.monotonic() - self._start:7.1f} s  {text}")
            self._out.flush()
