"""The thread pool for CPU work, as large as the CPUs that this process may use."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

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


class Workers:
    """Runs CPU work off the event loop. Small work runs in place: a thread would cost more than it."""

    def __init__(self, threads: int, inline_bytes: int) -> None:
        self._pool = ThreadPoolExecutor(threads or cpu_limit(), thread_name_prefix="worker")
        self._inline_bytes = inline_bytes

    async def run(self, work: Callable[[], T], size_bytes: int) -> T:
        """The result of `work`; `size_bytes` is how much data it goes through."""
        if size_bytes <= self._inline_bytes:
            return work()
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, work)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
