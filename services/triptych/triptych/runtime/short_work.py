"""CPU work that is short enough for the event loop, and the rest in threads.

How long work takes is learned for each `work_id`, which is the `id` of a version's plan, since bytes say little: 256
rows of sales_forecast, 37 KB, are prepared in 23 us, and a thread for them took 350 us of CPU more (2026-11-30).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from triptych.runtime.first_step import time_limit
from triptych.runtime.thread_pool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")

REMEMBERED = 0.9  # share of what was known that stays after the next measurement
MAX_IDS = 4_096  # with more, all is learned anew
MAX_BYTES = 1 << 20  # on the loop, however fast they were


class Settings(Protocol):
    """Settings of a stage that says what is short."""

    @property
    def inline_bytes(self) -> int: ...

    @property
    def inline_s(self) -> float: ...


class _Pace:
    """CPU seconds by bytes of one work_id: of large work more than of small, whose fixed costs say little.

    Waits for a core or for Python's lock say nothing about the work.
    """

    __slots__ = ("_bytes", "_seconds")

    def __init__(self) -> None:
        self._bytes = self._seconds = 0.0

    def add(self, size_bytes: int, seconds: float) -> None:
        self._bytes = REMEMBERED * self._bytes + size_bytes
        self._seconds = REMEMBERED * self._seconds + seconds

    def expected_s(self, size_bytes: int) -> float:
        return self._seconds / self._bytes * size_bytes


class ShortWork:
    """Runs work where it costs least: on the loop if it is short, else in a thread of the pool.

    inline_bytes: up to so many bytes work is short. To measure it would cost too much.
    inline_s: larger work that is expected to take no longer is short, too.
    """

    def __init__(self, thread_pool: ThreadPool, inline_bytes: int, inline_s: float) -> None:
        self.inline_bytes = inline_bytes
        self._thread_pool, self._inline_s = thread_pool, inline_s
        self._paces: dict[int, _Pace] = {}

    @property
    def wait_s(self) -> float:
        """Expected wait for a thread."""
        return self._thread_pool.wait_s

    @property
    def has_idle_thread(self) -> bool:
        """Whether a thread is free, and another one, if there are several."""
        return self._thread_pool.free_threads >= min(2, self._thread_pool.threads)

    def is_short(self, size_bytes: int, work_id: int | None) -> bool:
        """Whether work on so many bytes is to run on the loop. Work without an id is judged by its bytes alone."""
        if size_bytes <= self.inline_bytes or work_id is None:
            return size_bytes <= self.inline_bytes
        pace = self._paces.get(work_id)
        return pace is not None and size_bytes <= MAX_BYTES and pace.expected_s(size_bytes) <= self._inline_s

    def run_here(
        self, size_bytes: int, work_id: int | None, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Result of short work."""
        if work_id is None or size_bytes <= self.inline_bytes:
            return work(*args, **kwargs)
        started_s = time.thread_time()
        result = work(*args, **kwargs)
        self._learn(work_id, size_bytes, time.thread_time() - started_s)
        return result

    async def run_in_thread(
        self, size_bytes: int, work_id: int | None, work: Callable[[], T], limit_s: float | None = None
    ) -> T:
        """Result of longer work. Raises `TimeoutError` after `limit_s` seconds, if that is not None."""
        async with time_limit(limit_s):
            result, seconds = await self._thread_pool.run(partial(_timed, work), size_bytes)
        if work_id is not None:
            self._learn(work_id, size_bytes, seconds)
        return result

    def _learn(self, work_id: int, size_bytes: int, seconds: float) -> None:
        pace = self._paces.get(work_id)
        if pace is None:
            if len(self._paces) >= MAX_IDS:
                self._paces.clear()
            pace = self._paces[work_id] = _Pace()
        pace.add(size_bytes, seconds)


def short_work(thread_pool: ThreadPool, settings: Settings) -> ShortWork:
    """Work of a stage, by its settings."""
    return ShortWork(thread_pool, settings.inline_bytes, settings.inline_s)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """Result, and CPU seconds of the thread."""
    started_s = time.thread_time()
    return work(), time.thread_time() - started_s
