"""Tests that are coroutines, each on a loop of its own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs the test, behind which no task is left and nothing has failed unseen."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        faults: list[dict[str, Any]] = []

        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
            await test(*arguments, **named)
            for _ in range(10):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(watched())
        gc.collect(1)  # the young: what the test has left
        assert not faults

    return run
