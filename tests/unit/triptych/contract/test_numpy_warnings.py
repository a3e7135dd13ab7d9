"""numpy's warnings about arithmetic, in processes that serve and in others."""

from __future__ import annotations

import asyncio
from contextvars import copy_context

import numpy as np
import pytest

from triptych.contract import numpy_warnings
from triptych.contract.numpy_warnings import ARE_OFF

ZERO = np.zeros(1, np.float32)


def divide() -> bool:
    """Divide by zero. Return whether the context says that nothing warns of it."""
    assert np.isinf(np.ones(1, np.float32) / ZERO).all()
    return ARE_OFF.get()


def test_only_a_context_that_turned_them_off_has_none() -> None:
    def serve() -> bool:
        numpy_warnings.turn_off()
        return divide()

    assert copy_context().run(serve)
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert not divide()


def test_a_loop_that_starts_later_has_none_in_its_tasks_callbacks_and_threads() -> None:
    async def work() -> list[bool]:
        loop = asyncio.get_running_loop()
        called: asyncio.Future[bool] = loop.create_future()
        loop.call_soon(lambda: called.set_result(divide()))
        return [await asyncio.create_task(asyncio.to_thread(divide)), divide(), await called]

    def serve() -> list[bool]:
        numpy_warnings.turn_off()
        return asyncio.run(work())

    assert copy_context().run(serve) == [True, True, True]
