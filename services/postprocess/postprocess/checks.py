"""Checks of the model's outputs in a request, by the contract."""

from __future__ import annotations

from collections.abc import Mapping

from triptych.contract import Plan
from triptych.datatypes import Array, describe_array
from triptych.errors import ContractViolation, InvalidInput, InvalidRequest


def check_outputs(plan: Plan, tensors: Mapping[str, Array]) -> None:
    """Raises `InvalidInput` or `InvalidRequest` for tensors that are not what postprocess takes.

    These are the outputs of the model, and the values of preprocess that its steps read.
    """
    _refuse_extra(plan, tensors)
    rows = _rows(plan, tensors)
    for name in plan.missing(tensors):
        raise InvalidInput(name, "the value of preprocess that postprocess reads", "nothing")
    for name, array in plan.carried_values(tensors).items():
        if array.shape[:1] != (rows,):
            raise InvalidInput(name, f"{rows} rows, as the model's outputs have", describe_array(array))
    try:
        plan.check_model_outputs(tensors, rows)
    except ContractViolation as error:  # the caller sent the model's outputs, so the fault is the caller's
        raise InvalidRequest(str(error)) from error


def _refuse_extra(plan: Plan, tensors: Mapping[str, Array]) -> None:
    for name in tensors:
        if name not in plan.model_outputs and name not in plan.carried:
            known = f"one of {', '.join([*plan.model_outputs, *plan.carried])}"
            raise InvalidInput(name, known, "an output of the model of another name")


def _rows(plan: Plan, tensors: Mapping[str, Array]) -> int:
    outputs = [array for name, array in tensors.items() if name in plan.model_outputs]
    rows = max([len(array) for array in outputs if array.ndim], default=0)
    if not 1 <= rows <= plan.contract.max_rows:
        raise InvalidRequest(f"want 1 to {plan.contract.max_rows} rows of the model's outputs, got {rows}")
    return rows
