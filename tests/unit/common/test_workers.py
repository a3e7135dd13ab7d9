"""The thread pool for CPU work."""

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from triptych.cancellation import check_cancelled
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


def test_work_that_nobody_waits_for_ends_at_its_next_part_and_what_waits_behind_it_never_begins() -> None:
    begun, release = threading.Event(), threading.Event()
    parts: list[str] = []

    def long_work() -> None:
        for _ in range(100):
            check_cancelled()
            parts.append("long")
            begun.set()
            assert release.wait(60)

    async def test() -> None:
        workers = Workers(1, inline_bytes=0)
        first = asyncio.ensure_future(workers.run(long_work, 1))
        second = asyncio.ensure_future(workers.run(lambda: parts.append("second"), 1))
        await asyncio.to_thread(begun.wait, 60)
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        release.set()
        await workers.run(lambda: parts.append("third"), 1)
        workers.close()

    asyncio.run(test())
    assert parts == ["long", "third"]


def test_work_over_its_limit_of_time_ends_at_its_next_part() -> None:
    release = threading.Event()
    parts: list[str] = []

    def long_work() -> None:
        for _ in range(100):
            check_cancelled()
            parts.append("long")
            assert release.wait(60)

    async def test() -> None:
        workers = Workers(1, inline_bytes=10)
        with pytest.raises(TimeoutError):
            await workers.run_within(long_work, 11, 0.05)
        release.set()
        assert await workers.run_within(lambda: "no limit", 11, None) == "no limit"
        assert await workers.run_within(lambda: "in time", 11, 60) == "in time"
        assert await workers.run_within(lambda: "in place", 10, -1) == "in place"
        workers.close()

    asyncio.run(test())
    assert len(parts) <= 1  # on a busy machine it was not even begun


def test_work_that_somebody_waits_for_is_not_cancelled_by_that_of_others() -> None:
    async def test() -> None:
        workers = Workers(2, inline_bytes=0)
        gone = asyncio.ensure_future(workers.run(lambda: time.sleep(0.01), 1))
        stays = asyncio.ensure_future(workers.run(check_cancelled, 1))
        await asyncio.sleep(0)
        gone.cancel()
        await stays
        workers.close()

    asyncio.run(test())
    check_cancelled()  # in no thread of ours: nothing to be cancelled
