"""A coroutine whose first step runs at once, and the rest of it in a task."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from triptych.runtime.first_step import begin, next_turn, time_limit

NUMBER: ContextVar[int] = ContextVar("number", default=0)

Wait = Callable[[], Awaitable[object]]
WAITS = pytest.mark.parametrize("wait", [next_turn, lambda: asyncio.sleep(0.01), lambda: asyncio.sleep(0)])


async def begun(work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """The task that `begin` returns in a callback of the loop."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[asyncio.Task[None] | None] = loop.create_future()
    loop.call_soon(lambda: done.set_result(begin(work, loop)))
    return await done


async def test_a_coroutine_that_never_waits_needs_no_task() -> None:
    seen: list[asyncio.Task[object] | None] = []

    async def work() -> None:
        seen.append(asyncio.current_task())

    assert await begun(work()) is None
    assert seen == [None]


@WAITS
async def test_the_rest_of_a_coroutine_runs_in_a_task(wait: Wait) -> None:
    seen: list[asyncio.Task[object] | None] = []

    async def work() -> None:
        seen.append(asyncio.current_task())
        await wait()
        seen.append(asyncio.current_task())
        await wait()
        seen.append(asyncio.current_task())

    task = await begun(work())
    assert task is not None
    await task
    assert seen == [None, task, task]


async def test_a_result_and_an_error_reach_the_coroutine() -> None:
    seen: list[object] = []
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))

    async def work() -> None:
        seen.append(await first)
        try:
            await second
        except ValueError as error:
            seen.append(str(error))

    task = await begun(work())
    assert task is not None
    first.set_result(1)
    await asyncio.sleep(0.01)
    second.set_exception(ValueError("no"))
    await task
    assert seen == [1, "no"]


async def test_an_error_after_the_first_step_is_that_of_the_task() -> None:
    async def work() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("no")

    task = await begun(work())
    assert task is not None
    with pytest.raises(ValueError, match="no"):
        await task


@WAITS
@pytest.mark.parametrize("is_running", [False, True])
async def test_a_cancellation_reaches_the_coroutine_even_before_its_task_runs(wait: Wait, is_running: bool) -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await wait()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            seen.append("ended")
            raise

    task = await begun(work())
    assert task is not None
    if is_running:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled", "ended"]


@pytest.mark.parametrize("fails_first", [False, True])
async def test_a_cancellation_before_the_task_runs_leaves_no_future_behind(fails_first: bool) -> None:
    """It left a queued request that nobody awaited, whose error was logged as never retrieved."""
    loop = asyncio.get_running_loop()
    faults: list[object] = []
    loop.set_exception_handler(lambda _loop, context: faults.append(context["message"]))
    awaited, tasks = [loop.create_future()], list[asyncio.Task[None] | None]()

    async def work() -> None:
        await awaited[0]

    def start() -> None:
        tasks.append(begin(work(), loop))
        if fails_first:
            awaited[0].set_exception(ValueError("no"))
        assert tasks[0] is not None
        tasks[0].cancel()

    loop.call_soon(start)
    await asyncio.sleep(0.01)
    assert [task.cancelled() for task in tasks if task is not None] == [True]
    was_cancelled = awaited[0].cancelled()
    awaited.clear()
    tasks.clear()
    gc.collect()
    assert was_cancelled is not fails_first
    assert faults == []


@WAITS
async def test_the_context_of_a_coroutine_is_its_own_from_the_first_step_on(wait: Wait) -> None:
    seen: list[int] = []

    async def work() -> None:
        token = NUMBER.set(7)
        await wait()
        seen.append(NUMBER.get())
        NUMBER.reset(token)

    task = await begun(work())
    assert task is not None
    await task
    assert seen == [7]
    assert NUMBER.get() == 0


async def test_a_time_limit_holds_in_the_first_step_too() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            async with time_limit(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            seen.append("late")
        async with time_limit(60):
            seen.append("in time")

    task = await begun(work())
    assert task is not None
    await task
    assert seen == ["late", "in time"]
