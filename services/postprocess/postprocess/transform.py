"""The work of the stage: the model's tensors in, the answer's tensors out. Arrays only."""

from __future__ import annotations

from collections.abc import Mapping

from triptych.contract import Plan
from triptych.datatypes import Array
from triptych.errors import ContractViolation, InvalidInput, InvalidRequest
from triptych.room import Room
from triptych.tensors import Parameter
from triptych.workers import Workers


class Transform:
    """Finishes whole batches, off the event loop when they are large."""

    def __init__(self, workers: Workers, room: Room) -> None:
        self._workers, self._room = workers, room

    async def __call__(
        self, plan: Plan, tensors: Mapping[str, Array], parameters: Mapping[str, Parameter]
    ) -> dict[str, Array]:
        """The answer's tensors. Raises `InvalidInput`, `InvalidRequest`, `InvalidParameter` or `Overloaded`."""
        values = plan.check_parameters(parameters)
        _refuse_extra(plan, tensors)
        rows = _rows(plan, tensors)
        size_bytes = sum([array.nbytes for array in tensors.values()])
        self._room.take(size_bytes)
        try:
            plan.check_model_outputs(tensors, rows)
            return await self._workers.run(lambda: plan.postprocess(tensors, values), size_bytes)
        except ContractViolation as error:  # here the model's outputs are the caller's, so a fault is the caller's too
            raise InvalidRequest(str(error)) from error
        finally:
            self._room.give(size_bytes)


def _refuse_extra(plan: Plan, tensors: Mapping[str, Array]) -> None:
    for name in tensors:
        if name not in plan.model_outputs:
            known = f"one of {', '.join(plan.model_outputs)}"
            raise InvalidInput(name, known, "an output of the model of another name")


def _rows(plan: Plan, tensors: Mapping[str, Array]) -> int:
    rows = max([len(array) for array in tensors.values() if array.ndim], default=0)
    if not 1 <= rows <= plan.contract.max_rows:
        raise InvalidRequest(f"want 1 to {plan.contract.max_rows} rows of the model's outputs, got {rows}")
    return rows
