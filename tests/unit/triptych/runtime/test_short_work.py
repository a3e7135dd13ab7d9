"""Where CPU work runs: on the loop if it is known to be short, else in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from triptych.runtime import short_work
from triptych.runtime.cancellation import check_cancelled
from triptych.runtime.short_work import ShortWork
from triptych.runtime.thread_pool import ThreadPool

INLINE_S = 0.02
KIND, OTHER = 1, 2


@pytest.fixture
def work() -> Iterator[ShortWork]:
    thread_pool = ThreadPool(1)
    yield ShortWork(thread_pool, 100, INLINE_S)
    thread_pool.close()


def spin(seconds: float) -> str:
    """Name of the thread, after so much of its CPU time."""
    end_s = time.thread_time() + seconds
    while time.thread_time() < end_s:
        pass
    return threading.current_thread().name


async def where(work: ShortWork, size_bytes: int, seconds: float, kind: int | None = KIND) -> str:
    if work.is_short(size_bytes, kind):
        return work.run_here(size_bytes, kind, spin, seconds)
    return await work.run_in_thread(size_bytes, kind, lambda: spin(seconds))


async def test_work_of_unknown_pace_is_judged_by_its_bytes(work: ShortWork) -> None:
    assert [work.is_short(size, KIND) for size in (0, 100, 101)] == [True, True, False]
    assert (await where(work, 101, 0)).startswith("worker")


async def test_large_work_that_proved_fast_runs_on_the_loop(work: ShortWork) -> None:
    assert (await where(work, 10_000, 0)).startswith("worker")
    assert await where(work, 10_000, 0) == threading.current_thread().name
    assert not work.is_short(10_000, OTHER)
    assert not work.is_short(short_work.MAX_BYTES + 1, KIND)


async def test_large_work_that_proved_slow_runs_in_a_thread(work: ShortWork) -> None:
    for _ in range(2):
        assert (await where(work, 200, 3 * INLINE_S)).startswith("worker")
    assert not work.is_short(200, KIND)
    assert work.is_short(100, KIND)


async def test_the_pace_follows_a_change(work: ShortWork) -> None:
    assert (await where(work, 200, 3 * INLINE_S)).startswith("worker")
    while await where(work, 200, 0) != threading.current_thread().name:
        pass
    while await where(work, 200, 3 * INLINE_S) == threading.current_thread().name:
        pass


async def test_waits_are_no_work(work: ShortWork) -> None:
    await work.run_in_thread(101, KIND, lambda: time.sleep(3 * INLINE_S))
    assert work.is_short(101, KIND)


async def test_without_a_kind_nothing_is_learned(work: ShortWork) -> None:
    assert (await where(work, 101, 0, None)).startswith("worker")
    assert (await where(work, 101, 0, None)).startswith("worker")
    assert await where(work, 100, 3 * INLINE_S, None) == threading.current_thread().name
    assert work.is_short(100, None)


async def test_many_kinds_take_little_memory(work: ShortWork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_work, "MAX_IDS", 3)
    for kind in range(10):
        work.run_here(101, kind, spin, 0)
        assert len(work._paces) <= 3


async def test_errors_pass_and_teach_nothing(work: ShortWork) -> None:
    with pytest.raises(ZeroDivisionError):
        work.run_here(101, KIND, lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        await work.run_in_thread(101, KIND, lambda: 1 // 0)
    assert not work.is_short(101, KIND)


async def test_work_over_its_limit_of_time_ends_at_its_next_part(work: ShortWork) -> None:
    release, parts = threading.Event(), list[str]()

    def long_work() -> None:
        for _ in range(100):
            check_cancelled()
            parts.append("long")
            assert release.wait(60)

    with pytest.raises(TimeoutError):
        await work.run_in_thread(11, KIND, long_work, 0.05)
    release.set()
    assert await work.run_in_thread(11, KIND, lambda: "no limit") == "no limit"
    assert await work.run_in_thread(11, KIND, lambda: "in time", 60) == "in time"
    assert len(parts) <= 1  # on a busy machine it was not even begun
