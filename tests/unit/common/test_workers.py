"""The thread pool for CPU work."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from triptych.workers import Workers, cpu_limit


@pytest.mark.parametrize(("text", "cpus"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None)])
def test_the_pool_follows_the_cgroup_and_not_the_host(tmp_path: Path, text: str, cpus: int | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_limit(tmp_path / "cpu.max") == (cpus or len(os.sched_getaffinity(0)))


def test_without_a_cgroup_the_affinity_stands(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path / "absent") == len(os.sched_getaffinity(0))


def test_small_work_runs_in_place_and_large_work_in_a_thread() -> None:
    async def names() -> list[str]:
        workers = Workers(1, inline_bytes=100)
        found = [await workers.run(lambda: threading.current_thread().name, size) for size in (100, 101)]
        workers.close()
        return found

    small, large = asyncio.run(names())
    assert small == threading.current_thread().name
    assert large.startswith("worker")
