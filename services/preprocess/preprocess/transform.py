"""The work of preprocess: from a request's arrays to the model's. No gRPC."""

from __future__ import annotations

from collections.abc import Mapping

from triptych.contract import Plan
from triptych.datatypes import Array
from triptych.runtime.thread_pool import ThreadPool


class Transform:
    """Checks and prepares a batch, in a thread if it is large."""

    def __init__(self, thread_pool: ThreadPool) -> None:
        self._thread_pool = thread_pool

    @property
    def wait_s(self) -> float:
        """Time that a large request would wait for a thread."""
        return self._thread_pool.wait_s

    async def __call__(self, plan: Plan, tensors: Mapping[str, Array], size_bytes: int) -> Mapping[str, Array]:
        """Returns the model's inputs, and values for postprocess. Raises `InvalidInput` or `InvalidRequest`."""
        plan.check_inputs(tensors)
        if self._thread_pool.is_inline(size_bytes):
            return plan.preprocess(tensors)
        return await self._thread_pool.run(lambda: plan.preprocess(tensors), size_bytes)
