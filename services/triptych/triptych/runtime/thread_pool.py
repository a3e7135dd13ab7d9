"""The thread pool for CPU work, as large as the CPUs that this process may use."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from threading import Event
from typing import TypeVar

from triptych.runtime.cancellation import CANCELLED

T = TypeVar("T")

LEARNT = 0.1  # of what is new, when a mean follows it

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def cpu_limit(cpu_max: Path = CPU_MAX) -> int:
    """CPUs of this process: the smaller of its affinity and its cgroup quota (v2 `cpu.max`), rounded up, at least 1."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text().split()
        if quota != "max":
            cpus = min(cpus, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2 here: the affinity stands
    return max(1, cpus)


class ThreadPool:
    """Runs CPU work off the event loop. Small work runs in place: a thread would cost more than it.

    A decoder cannot be stopped within a picture. A thread whose work nobody waits for any more does not count, so that
    other work gets a thread at once; there are as many spare threads as counted ones.
    """

    def __init__(self, threads: int, inline_bytes: int) -> None:
        self._threads = threads or cpu_limit()
        self._pool = ThreadPoolExecutor(2 * self._threads, thread_name_prefix="worker")
        self._free = asyncio.Semaphore(self._threads)
        self._abandoned = 0  # threads that go on with abandoned work and do not count
        self._inline_bytes = inline_bytes
        self._bytes = 0  # in hand
        self._s_per_byte = 0.0

    @property
    def wait_s(self) -> float:
        """How long work that comes now would wait for a thread, by what the last work took for its size."""
        return self._bytes * self._s_per_byte / self._threads

    async def run_within(self, work: Callable[[], T], size_bytes: int, limit_s: float | None) -> T:
        """The same as `run`, but raises `TimeoutError` after `limit_s`, if that is not None.

        Work in place has no limit: nothing can end it, and a timer would only cost.
        """
        if size_bytes <= self._inline_bytes:
            return work()
        async with asyncio.timeout(limit_s):
            return await self.run(work, size_bytes)

    async def run(self, work: Callable[[], T], size_bytes: int) -> T:
        """The result of `work`; `size_bytes` is how much data it goes through.

        When nobody waits for it any more, work that has not begun never does, and other work ends at its next
        `check_cancelled`.
        """
        if size_bytes <= self._inline_bytes:
            return work()
        self._bytes += size_bytes
        try:
            await self._free.acquire()
            result, took_s = await self._in_thread(work)
        finally:
            self._bytes -= size_bytes
        self._s_per_byte += (took_s / size_bytes - self._s_per_byte) * (LEARNT if self._s_per_byte else 1.0)
        return result

    async def _in_thread(self, work: Callable[[], T]) -> tuple[T, float]:
        """Runs it in a thread that was free, and gives the thread back."""
        context, cancelled = copy_context(), Event()
        context.run(CANCELLED.set, cancelled)
        running = self._pool.submit(context.run, _timed, work)
        try:
            return await asyncio.wrap_future(running)
        finally:
            if running.done():
                self._free.release()
            else:
                cancelled.set()
                self._abandon(running)

    def _abandon(self, running: Future[tuple[T, float]]) -> None:
        """Gives the thread back before its work has ended, while there are spare ones, or else at that moment."""
        loop, spare = asyncio.get_running_loop(), self._abandoned < self._threads
        if spare:
            self._abandoned += 1
            self._free.release()

        def ended() -> None:
            if spare:
                self._abandoned -= 1
            else:
                self._free.release()

        def tell(_running: Future[tuple[T, float]]) -> None:
            with suppress(RuntimeError):  # the loop was closed before
                loop.call_soon_threadsafe(ended)

        running.add_done_callback(tell)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started_s = time.monotonic()
    return work(), time.monotonic() - started_s
