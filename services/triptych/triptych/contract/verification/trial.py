"""A trial run of the steps of a contract on made-up rows, which finds faults that declarations alone do not show.

Examples: a datatype that the model does not take, pictures of different sizes where one array is needed. A contract
that would fail for every request fails here, at its publication.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from triptych.contract.checks import TensorCheck
from triptych.contract.errors import Problem
from triptych.contract.plan import carried_values
from triptych.contract.schema.contract import Contract
from triptych.contract.specs import InputSpec, Scalar, TensorSpec
from triptych.contract.steps.base import Environment, Run, Scope, Step
from triptych.contract.steps.step_file import StepFile
from triptych.contract.verification.trial_limits import ANY, Budget, TrialLimits, oversized, row_bytes
from triptych.datatypes import FLOATS, TO_NUMPY, Array
from triptych.errors import ContractViolation, InvalidRequest

_ROWS: Final = 2


def trial(
    contract: Contract, limits: TrialLimits | None = None, files: Mapping[str, StepFile] | None = None
) -> list[Problem]:
    """Run the steps, and return the problems. A refusal of a made-up row as bad input is no problem.

    A contract with declared sizes beyond the limits is not run. `files` are those that the steps read, by path.
    """
    limits = limits or TrialLimits()
    if found := [*excesses(contract, files or {}, limits), *_unreadable(contract)]:
        return found
    scope = contract.scope_with(files or {})
    found, _runs = _compiled(contract, scope)
    if found:
        return found
    budget = Budget(limits)
    sent = made_up_inputs(contract, _ROWS)
    needed = {spec.name: sent[spec.name] for spec in contract.inputs if spec.required}
    defaults: dict[str, Scalar] = {spec.name: spec.default for spec in contract.parameters}
    results = made_up_tensors(contract.model.outputs, _ROWS)
    before = ("preprocess", contract.preprocess, contract.model.inputs, ("model", "inputs"))
    after = ("postprocess", contract.postprocess, contract.outputs, ("outputs",))
    found, env = _run(scope, budget, *before, sent, {})
    if not found and needed.keys() != sent.keys():
        found, _ = _run(scope, budget, *before, needed, {})
    if contract.carried:
        if env is None:
            return found  # there are no values of preprocess to go on with
        try:
            results = made_up_tensors(_sized(contract, env, limits), _ROWS) | carried_values(contract.carried, env)
        except ContractViolation as error:
            return [*found, Problem(("postprocess",), str(error))]
    return found + _run(scope, budget, *after, results, defaults)[0]


def excesses(contract: Contract, files: Mapping[str, StepFile], limits: TrialLimits | None = None) -> list[Problem]:
    """Declared sizes and files of steps that take more than the limits, found before anything is made or read."""
    limits, found, scope = limits or TrialLimits(), list[Problem](), contract.scope_with(files)
    for stage, steps in (("preprocess", contract.preprocess), ("postprocess", contract.postprocess)):
        for i, step in enumerate(steps):
            if any(step.files()) and (fault := step.reading_fault(scope, limits.held_bytes, limits.seconds)):
                found.append(Problem((stage, i), fault))
    return [*oversized(contract, limits), *found]


def _unreadable(contract: Contract) -> list[Problem]:
    """The fault for which the stages could not read the contract as they get it, with its defaults written out."""
    try:
        Contract.model_validate_json(contract.canonical_json())
    except ValidationError as error:
        first = error.errors()[0]
        return [Problem(tuple(first["loc"][:2]), f"cannot be read with its defaults written out: {first['msg']}")]
    return []


def _sized(contract: Contract, env: Environment, limits: TrialLimits) -> list[TensorSpec]:
    """Outputs of the model whose open dimensions have the sizes of those of its inputs, such as the tokens of a text.

    A step may read an output and a value of preprocess, which have to agree.
    """
    sizes = dict[int, int]()
    for spec in contract.model.inputs:
        for axis, (dim, size) in enumerate(zip(spec.shape, np.shape(env[spec.name]), strict=True)):
            if dim == -1:
                sizes.setdefault(axis, size)
    sized = list[TensorSpec]()
    for spec in contract.model.outputs:
        shape = (-1, *(sizes.get(axis, dim) if dim == -1 else dim for axis, dim in enumerate(spec.shape[1:], 1)))
        other = spec.model_copy(update={"shape": shape})
        sized.append(other if row_bytes(other) <= limits.row_bytes else spec)
    return sized


def _compiled(contract: Contract, scope: Scope) -> tuple[list[Problem], list[Run]]:
    """Problems of the files that steps read, and those steps compiled: as long as they exist, a tokenizer is shared."""
    found, runs = list[Problem](), list[Run]()
    for stage, steps in (("preprocess", contract.preprocess), ("postprocess", contract.postprocess)):
        for i, step in enumerate(steps):
            if not any(step.files()):
                continue
            try:
                runs.append(step.compile(scope))
            except ContractViolation as error:
                found.append(Problem((stage, i), str(error)))
    return found, runs


def made_up_inputs(contract: Contract, rows: int) -> dict[str, Array]:
    """Inputs that a caller could send: numbers within the limits, and examples of the steps."""
    examples: dict[str, object] = {}
    for step in reversed(contract.preprocess):
        examples |= step.examples()
    return {spec.name: _input(spec, rows, examples.get(spec.name)) for spec in contract.inputs}


def made_up_tensors(specs: Sequence[TensorSpec], rows: int) -> dict[str, Array]:
    """Zeros by name; a dimension of any size is 16."""
    return {spec.name: _zeros(spec, rows) for spec in specs}


def _run(
    scope: Scope,
    budget: Budget,
    stage: str,
    steps: Sequence[Step],
    wanted: Sequence[TensorSpec],
    path: tuple[str, ...],
    values: Mapping[str, Array],
    parameters: Mapping[str, Scalar],
) -> tuple[list[Problem], Environment | None]:
    """The problems, and the values after the last step; None if the steps did not get there."""
    env = Environment(values, _ROWS, parameters)
    for i, step in enumerate(steps):
        if refusal := budget.refusal(step, env):
            return [Problem((stage, i), refusal)], None
        try:
            with np.errstate(all="ignore"):
                step.compile(scope)(env)
        except InvalidRequest:
            return [], None
        except Exception as error:
            text = f"{step.op} fails on made-up rows: {type(error).__name__}: {error}"
            return [Problem((stage, i), text)], None
    found = []
    for i, spec in enumerate(wanted):
        try:
            TensorCheck(f"{stage} ends with", [spec])(env, _ROWS)
        except ContractViolation as error:
            found.append(Problem((*path, i), str(error)))
    return found, env


def _input(spec: InputSpec, rows: int, example: object) -> Array:
    array = _zeros(spec, rows)
    if example is not None:
        array[...] = example
    elif spec.datatype in FLOATS:
        array[...] = _spread(spec, array[0].size).reshape(array.shape[1:])
    elif spec.datatype not in ("BYTES", "BOOL"):
        array[...] = _between(spec)
    return array


def _zeros(spec: TensorSpec, rows: int) -> Array:
    shape = (rows, *(ANY if dim == -1 else dim for dim in spec.shape[1:]))
    array: Array = np.zeros(shape, TO_NUMPY[spec.datatype])
    if spec.datatype == "BYTES":
        array[...] = b""
    return array


def _spread(spec: InputSpec, count: int) -> Array:
    """Different numbers within the limits, for a model may divide by their deviation; the same in every row."""
    low = spec.limits.get("minimum", spec.limits.get("exclusive_minimum"))
    high = spec.limits.get("maximum", spec.limits.get("exclusive_maximum"))
    parts = (np.arange(count) * 0.618034 % 1.0 + 0.5) / 2  # from 1/4 to 3/4, no two adjacent ones alike
    if low is not None and high is not None:
        return low * (1 - parts) + high * parts
    if low is not None:
        return low + 2 * parts
    return high - 2 * parts if high is not None else 2 * parts


def _between(spec: InputSpec) -> Any:
    """A number within the limits."""
    low = spec.limits.get("minimum", spec.limits.get("exclusive_minimum"))
    high = spec.limits.get("maximum", spec.limits.get("exclusive_maximum"))
    if low is not None and high is not None:
        middle = (low + high) / 2
        return middle if spec.datatype in FLOATS else int(np.ceil(middle))
    if low is not None:
        return low + 1
    return high - 1 if high is not None else 1
