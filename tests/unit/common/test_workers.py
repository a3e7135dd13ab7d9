"""The thread pool for CPU work."""

import asyncio
import os
import threading
import time
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


def test_the_wait_to_expect_follows_what_is_in_hand_and_what_the_last_work_took() -> None:
    async def waits() -> list[float]:
        workers = Workers(2, inline_bytes=100)
        found = [workers.wait_s]
        await workers.run(lambda: time.sleep(0.02), 1000)
        found.append(workers.wait_s)
        jobs = [asyncio.ensure_future(workers.run(lambda: time.sleep(0.02), 1000)) for _ in range(6)]
        await asyncio.sleep(0)
        found.append(workers.wait_s)
        jobs.pop().cancel()
        await asyncio.sleep(0)
        found.append(workers.wait_s)
        await asyncio.gather(*jobs)
        found.append(workers.wait_s)
        workers.close()
        return found

    before, idle, six, five, after = asyncio.run(waits())
    assert before == idle == after == 0.0
    assert six >= 6 * 0.02 / 2
    assert five == pytest.approx(six * 5 / 6)


def test_work_that_fails_is_not_in_hand_any_more() -> None:
    async def wait_s() -> float:
        workers = Workers(1, inline_bytes=0)
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0, 1000)
        return workers.wait_s

    assert asyncio.run(wait_s()) == 0.0
