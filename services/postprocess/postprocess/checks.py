"""Checks of a request to postprocess before its work: the outputs of the model are as the contract has them."""

from __future__ import annotations

from collections.abc import Mapping

from triptych.contract import Plan
from triptych.datatypes import Array
from triptych.errors import ContractViolation, InvalidInput, InvalidRequest


def check_outputs(plan: Plan, tensors: Mapping[str, Array]) -> None:
    """Raises `InvalidInput` or `InvalidRequest` for what are no outputs of the model."""
    _refuse_extra(plan, tensors)
    try:
        plan.check_model_outputs(tensors, _rows(plan, tensors))
    except ContractViolation as error:  # here the model's outputs are the caller's, so a fault is the caller's too
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
