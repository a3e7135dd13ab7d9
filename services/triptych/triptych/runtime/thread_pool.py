"""Thread pool for CPU work, with as many threads as the process may use CPUs."""

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
from triptych.runtime.ewma import Ewma

T = TypeVar("T")

LATEST_WEIGHT = 0.1  # of the latest work in the average

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def cpu_limit(cpu_max: Path = CPU_MAX) -> int:
    """Number of CPUs: the smaller of the affinity and the cgroup quota (v2 `cpu.max`), rounded up, at least 1."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text().split()
        if quota != "max":
            cpus = min(cpus, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2: only the affinity counts
    return max(1, cpus)


class ThreadPool:
    """Runs CPU work off the event loop.

    A decoder cannot be stopped within a picture. A thread with abandoned work does not count, so that other work gets a
    thread at once. There are as many reserve threads as counted ones.
    """

    def __init__(self, threads: int) -> None:
        """`threads` 0 stands for the number of CPUs."""
        self.threads = threads or cpu_limit()
        self._pool = ThreadPoolExecutor(2 * self.threads, thread_name_prefix="worker")
        self._free = asyncio.Semaphore(self.threads)
        self._abandoned = 0  # threads with abandoned work that do not count
        self._bytes = self._works = 0  # bytes and number of queued and running works
        self._s_per_byte = Ewma(LATEST_WEIGHT)

    @property
    def wait_s(self) -> float:
        """Expected wait for a thread, from the queued bytes and the average duration per byte."""
        return self._bytes * self._s_per_byte.value / self.threads

    @property
    def free_threads(self) -> int:
        """Threads that have no work, and none is queued for them."""
        return max(0, self.threads - self._works)

    async def run(self, work: Callable[[], T], size_bytes: int) -> T:
        """Result of `work`; `size_bytes` is the amount of data that it processes.

        If the caller is cancelled, queued work never starts, and running work ends at its next `check_cancelled`.
        """
        self._bytes += size_bytes
        self._works += 1
        try:
            await self._free.acquire()
            result, took_s = await self._in_thread(work)
        finally:
            self._bytes -= size_bytes
            self._works -= 1
        self._s_per_byte.add(took_s / size_bytes)
        return result

    async def _in_thread(self, work: Callable[[], T]) -> tuple[T, float]:
        """Run work in a free thread. Return the result and its seconds."""
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
        """Free the thread at once while the reserve lasts, else when its work has ended."""
        loop, replaced = asyncio.get_running_loop(), self._abandoned < self.threads
        if replaced:
            self._abandoned += 1
            self._free.release()

        def ended() -> None:
            if replaced:
                self._abandoned -= 1
            else:
                self._free.release()

        def notify(_running: Future[tuple[T, float]]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ended)

        running.add_done_callback(notify)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started_s = time.monotonic()
    return work(), time.monotonic() - started_s
