"""Start of a coroutine at once: its first step needs no task, and often it is the last. asyncio of 3.12 has the like.

A task takes about 20,000 instructions and a turn of the loop, which is a twentieth of what a stage does for a request
that is alone (2026-11-30). Until the coroutine has waited once it runs in no task, so it must not ask for the current
one: `time_limit` is `asyncio.timeout` that waits for a task first.
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import AsyncIterator, Coroutine, Generator
from contextvars import copy_context
from typing import Any

NAME = "call"  # asyncio would make a name for each task


def begin(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None] | None:
    """Run a coroutine up to where it first waits. Return the task of the rest; None if it has ended.

    To be called by the loop, not in a task, which the coroutine would take for its own.
    The coroutine gets a context of its own, and a cancellation of its task, as if the task had run it from its start.
    """
    context = copy_context()
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration:
        return None
    if awaited is not None:  # None is a wait for the next turn of the loop: the task begins there
        coroutine = _resumed(coroutine, awaited)
        context.run(coroutine.send, None)
    return asyncio.Task(coroutine, loop=loop, name=NAME, context=context)


@contextlib.asynccontextmanager
async def time_limit(seconds: float | None) -> AsyncIterator[None]:
    """`asyncio.timeout`, also in the first step of a coroutine that `begin` runs."""
    if asyncio.current_task() is None:
        await next_turn()
    async with asyncio.timeout(seconds):
        yield


@types.coroutine
def next_turn() -> Generator[None, None, None]:
    """Wait for the next turn of the loop, as `asyncio.sleep(0)` does by two coroutines."""
    yield


async def _resumed(coroutine: Coroutine[Any, Any, None], awaited: Any) -> None:
    """The rest of a coroutine that waits for `awaited`. Its own first step ends before the coroutine goes on."""
    await _steps(coroutine, awaited)


@types.coroutine
def _steps(coroutine: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, None, None]:
    before: tuple[Any, ...] = (None, awaited)  # nothing for `begin`, and then what the task is to wait for
    try:
        while True:
            try:
                yield from before
            except BaseException as error:  # such as a cancellation
                _abandon(awaited)
                awaited = coroutine.throw(error)
            else:
                awaited = coroutine.send(None)
            before = (awaited,)
    except StopIteration:
        return


def _abandon(awaited: asyncio.Future[Any] | None) -> None:
    """Cancel what a cancelled coroutine waited for, as a task does that has seen it; the task may not have yet."""
    if awaited is not None and not awaited.cancel() and not awaited.cancelled():
        awaited.exception()  # marks it as retrieved: nobody awaits it
