"""Checks of the model's outputs in a request, by the contract."""

from __future__ import annotations

from collections.abc import Mapping

from triptych.contract import Plan
from triptych.datatypes import Array
from triptych.errors import ContractViolation, InvalidInput, InvalidRequest


def check_outputs(plan: Plan, tensors: Mapping[str, Array]) -> None:
    """Raises `InvalidInput` or `InvalidRequest` for tensors that are not the outputs of the model."""
    _refuse_extra(plan, tensors)
    try:
        plan.check_model_outputs(tensors, _rows(plan, tensors))
    except ContractViolation as error:  # the caller sent the model's outputs, so the fault is the caller's
        raise InvalidRequest(str(error)) from error


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
