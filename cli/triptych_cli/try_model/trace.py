"""The values after each step of a request, and the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.contract import Contract, Environment, Plan, Scope, Step, StepFile
from triptych.contract.steps.pictures.pictures import Pictures
from triptych.datatypes import Array
from triptych_cli.try_model.request import Request

Predict = Callable[[Mapping[str, Array]], Mapping[str, Array]]  # from the model's inputs to its outputs


@dataclass(frozen=True)
class Moment:
    """The values that one step wrote. `values` are arrays, or lists of pictures of different sizes."""

    part: str
    step: str
    values: Mapping[str, Any]


def trace(
    contract: Contract, request: Request, predict: Predict | None, files: Mapping[str, StepFile] | None = None
) -> Iterator[Moment]:
    """The values of a request step by step; without `predict` up to the inputs of the model.

    `files` are those that the steps read, by path. Raises the errors of the steps and of the checks of the plan.
    """
    plan, scope = Plan(contract, files or {}), contract.scope_with(files or {})
    rows = plan.check_inputs(request.inputs)
    parameters = plan.check_parameters(request.parameters)
    yield Moment("request", "", request.inputs)
    env = Environment(request.inputs, rows, {})
    yield from _steps("preprocess", contract.preprocess, scope, env)
    values = plan.preprocess(request.inputs)  # with the check of the model's inputs
    if predict is None:
        return
    outputs = predict(plan.model_inputs(values))
    plan.check_model_outputs(outputs, rows)
    yield Moment("model", "", outputs)
    outputs = {name: outputs[name] for name in plan.model_outputs} | plan.carried_values(values)
    env = Environment(outputs, rows, parameters)
    yield from _steps("postprocess", contract.postprocess, scope, env)
    yield Moment("answer", "", plan.postprocess(outputs, parameters))


def _steps(part: str, steps: Sequence[Step], scope: Scope, env: Environment) -> Iterator[Moment]:
    for number, step in enumerate(steps):
        with np.errstate(all="ignore"):
            step.compile(scope)(env)
        for name in step.writes():
            if isinstance(env.get(name), Pictures):
                env[name] = list(env[name])
        yield Moment(part, f"{number} {step.op}", {name: env[name] for name in step.writes() if name in env})
