"""Check that a test leaves no task and no unhandled exception."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any


def leaves_nothing(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    """Fail a test that leaves a task, or an exception in the event loop's handler."""

    @wraps(test)
    async def run(*arguments: Any, **named: Any) -> None:
        faults: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: faults.append(context))
        await test(*arguments, **named)
        for _ in range(10):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        gc.collect(1)  # the young: objects that the test has left
        loop.set_exception_handler(None)
        assert not faults

    return run
