"""Calls that go on to their end when their caller is cancelled: a transaction is not torn, nor a connection lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class HasRunning(Protocol):
    """An object that knows its running calls, so that it can wait for them before it closes."""

    _running: set[asyncio.Task[Any]]


S = TypeVar("S", bound=HasRunning)


def completed(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Awaitable[R]]:
    """Run a method in a task of its own. A cancelled caller leaves at once, and the task goes on."""

    @wraps(method)
    async def call(self: S, /, *args: P.args, **options: P.kwargs) -> R:
        task = asyncio.create_task(method(self, *args, **options))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    return call


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Mark an error as retrieved: its caller may have left."""
    if not task.cancelled():
        task.exception()
