"""The work of preprocess: from a request's arrays to the model's. No gRPC."""

from __future__ import annotations

from collections.abc import Mapping

from triptych.contract import Plan
from triptych.datatypes import Array
from triptych.runtime.short_work import ShortWork


class Transform:
    """Checks and prepares a batch, in a thread if that takes long."""

    def __init__(self, work: ShortWork) -> None:
        self._work = work

    @property
    def wait_s(self) -> float:
        """Time that a large request would wait for a thread."""
        return self._work.wait_s

    @property
    def has_idle_thread(self) -> bool:
        """Whether a thread is free, and another one, if there are several."""
        return self._work.has_idle_thread

    def is_short(self, plan: Plan, size_bytes: int) -> bool:
        """Whether the work on so many bytes, with pictures unpacked, does not keep the loop for long."""
        return self._work.is_short(size_bytes, _work_id(plan))

    async def __call__(self, plan: Plan, tensors: Mapping[str, Array], size_bytes: int) -> Mapping[str, Array]:
        """Returns the model's inputs, and values for postprocess. Raises `InvalidInput` or `InvalidRequest`."""
        plan.check_inputs(tensors)
        if size_bytes <= self._work.inline_bytes:
            return plan.preprocess(tensors)
        work_id = _work_id(plan)
        if self._work.is_short(size_bytes, work_id):
            return self._work.run_here(size_bytes, work_id, plan.preprocess, tensors)
        return await self._work.run_in_thread(size_bytes, work_id, lambda: plan.preprocess(tensors))


def _work_id(plan: Plan) -> int | None:
    """Id under which the time of its work is learned. None where files are unpacked, whose bytes say too little."""
    return None if plan.unpacks else id(plan)
