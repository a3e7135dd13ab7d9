"""The work of the stage: the model's tensors in, the answer's tensors out. Arrays only."""

from __future__ import annotations

from collections.abc import Mapping

from triptych.contract import Plan
from triptych.datatypes import Array
from triptych.errors import ContractViolation, InvalidRequest
from triptych.tensors import Parameter
from triptych.workers import Workers


class Transform:
    """Finishes whole batches, off the event loop when they are large."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    async def __call__(
        self, plan: Plan, tensors: Mapping[str, Array], parameters: Mapping[str, Parameter]
    ) -> dict[str, Array]:
        """The answer's tensors. Raises `InvalidInput`, `InvalidRequest` or `InvalidParameter`."""
        values = plan.check_parameters(parameters)
        _check(plan, tensors)
        size_bytes = sum(array.nbytes for array in tensors.values())
        return await self._workers.run(lambda: plan.postprocess(tensors, values), size_bytes)


def _check(plan: Plan, tensors: Mapping[str, Array]) -> None:
    """The contract's own check of model outputs; here they are a caller's, so a fault is the caller's too."""
    rows = max((len(array) for array in tensors.values() if array.ndim), default=0)
    if not 1 <= rows <= plan.contract.max_rows:
        raise InvalidRequest(f"want 1 to {plan.contract.max_rows} rows of the model's outputs, got {rows}")
    try:
        plan.check_model_outputs(tensors, rows)
    except ContractViolation as error:
        raise InvalidRequest(str(error)) from error
