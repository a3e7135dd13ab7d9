"""The work of the stage: a request's tensors in, the model's tensors out. Arrays only."""

from __future__ import annotations

from collections.abc import Mapping

from triptych.contract import Plan
from triptych.datatypes import Array
from triptych.workers import Workers


class Transform:
    """Checks and prepares whole batches, off the event loop when they are large."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    @property
    def wait_s(self) -> float:
        """How long a large request would wait for a thread."""
        return self._workers.wait_s

    async def __call__(self, plan: Plan, tensors: Mapping[str, Array], size_bytes: int) -> Mapping[str, Array]:
        """The model's inputs. Raises `InvalidInput` or `InvalidRequest`."""
        plan.check_inputs(tensors)
        return await self._workers.run(lambda: plan.preprocess(tensors), size_bytes)
