"""The thread pool for CPU work."""

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from triptych.runtime.cancellation import check_cancelled
from triptych.runtime.thread_pool import ThreadPool, cpu_limit


@pytest.mark.parametrize(("text", "cpus"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None)])
def test_the_pool_follows_the_cgroup_and_not_the_host(tmp_path: Path, text: str, cpus: int | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_limit(tmp_path / "cpu.max") == (cpus or len(os.sched_getaffinity(0)))


def test_without_a_cgroup_the_affinity_counts(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path / "absent") == len(os.sched_getaffinity(0))


async def test_the_expected_wait_follows_the_work_in_progress_and_the_duration_of_the_last() -> None:
    thread_pool = ThreadPool(2)
    found = [thread_pool.wait_s]
    await thread_pool.run(lambda: time.sleep(0.02), 1000)
    found.append(thread_pool.wait_s)
    jobs = [asyncio.ensure_future(thread_pool.run(lambda: time.sleep(0.02), 1000)) for _ in range(6)]
    await asyncio.sleep(0)
    found.append(thread_pool.wait_s)
    jobs.pop().cancel()
    await asyncio.sleep(0)
    found.append(thread_pool.wait_s)
    await asyncio.gather(*jobs)
    found.append(thread_pool.wait_s)
    thread_pool.close()
    before, idle, six, five, after = found
    assert before == idle == after == 0.0
    assert six >= 6 * 0.02 / 2
    assert five == pytest.approx(six * 5 / 6)


async def test_failed_work_is_no_longer_in_progress() -> None:
    async def wait_s() -> float:
        thread_pool = ThreadPool(1)
        with pytest.raises(ZeroDivisionError):
            await thread_pool.run(lambda: 1 // 0, 1000)
        return thread_pool.wait_s

    assert await wait_s() == 0.0


async def test_work_that_nobody_waits_for_ends_at_its_next_part_and_what_waits_behind_it_never_begins() -> None:
    begun, release = threading.Event(), threading.Event()
    parts: list[str] = []

    def long_work() -> None:
        for _ in range(100):
            check_cancelled()
            parts.append("long")
            begun.set()
            assert release.wait(60)

    thread_pool = ThreadPool(1)
    first = asyncio.ensure_future(thread_pool.run(long_work, 1))
    second = asyncio.ensure_future(thread_pool.run(lambda: parts.append("second"), 1))
    await asyncio.to_thread(begun.wait, 60)
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    release.set()
    await thread_pool.run(lambda: parts.append("third"), 1)
    thread_pool.close()
    assert parts == ["long", "third"]


async def test_work_with_a_waiter_is_not_cancelled_by_that_of_others() -> None:
    thread_pool = ThreadPool(2)
    gone = asyncio.ensure_future(thread_pool.run(lambda: time.sleep(0.01), 1))
    stays = asyncio.ensure_future(thread_pool.run(check_cancelled, 1))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    thread_pool.close()
    check_cancelled()  # in no thread of ours: nothing to be cancelled


class Picture:
    """Work that cannot be stopped: it has begun, and ends when the test decides."""

    def __init__(self) -> None:
        self.begun, self.ends = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.ends.wait(60)
        return "decoded"

    async def abandoned(self, thread_pool: ThreadPool) -> None:
        """Abandon work that has begun; its thread goes on."""
        task = asyncio.ensure_future(thread_pool.run(self, 1))
        assert await asyncio.to_thread(self.begun.wait, 60)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def given_back(thread_pool: ThreadPool) -> None:
    while thread_pool._abandoned:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("threads", [1, 2, 3])
async def test_work_does_not_wait_for_abandoned_work_that_cannot_be_stopped(threads: int) -> None:
    thread_pool = ThreadPool(threads)
    pictures = [Picture() for _ in range(threads)]
    for picture in pictures:
        await picture.abandoned(thread_pool)
    assert await asyncio.gather(*(thread_pool.run(lambda: "good", 1) for _ in range(9))) == ["good"] * 9
    assert thread_pool._abandoned == threads
    for picture in pictures:
        picture.ends.set()
    await given_back(thread_pool)
    thread_pool.close()


async def test_work_that_goes_on_counts_once_the_spare_threads_are_taken_and_every_thread_comes_back() -> None:
    thread_pool, first, second = ThreadPool(1), Picture(), Picture()
    await first.abandoned(thread_pool)
    await second.abandoned(thread_pool)
    good = asyncio.ensure_future(thread_pool.run(lambda: "good", 1))
    assert not (await asyncio.wait({good}, timeout=0.05))[0]
    second.ends.set()
    assert await good == "good"
    first.ends.set()
    await given_back(thread_pool)
    third = Picture()
    await third.abandoned(thread_pool)
    assert await thread_pool.run(lambda: "good", 1) == "good"
    third.ends.set()
    await given_back(thread_pool)
    thread_pool.close()


async def test_no_more_than_the_counted_threads_and_the_spare_ones_run_at_once() -> None:
    running: list[int] = []
    most = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal most
        with lock:
            running.append(1)
            most = max(most, len(running))
        time.sleep(0.001)
        with lock:
            running.pop()

    thread_pool = ThreadPool(2)
    for _ in range(20):
        tasks = [asyncio.ensure_future(thread_pool.run(work, 1)) for _ in range(12)]
        await asyncio.sleep(0.002)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await given_back(thread_pool)
    assert await thread_pool.run(lambda: "good", 1) == "good"
    assert thread_pool.wait_s == 0.0
    thread_pool.close()
    assert 0 < most <= 4


def test_a_loop_that_closed_before_abandoned_work_ended_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    picture = Picture()

    async def test() -> ThreadPool:
        thread_pool = ThreadPool(1)
        await picture.abandoned(thread_pool)
        return thread_pool

    thread_pool = asyncio.run(test())
    picture.ends.set()
    thread_pool._pool.shutdown(wait=True)
    assert caplog.records == []
