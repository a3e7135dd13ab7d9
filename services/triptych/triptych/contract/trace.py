"""The values after each step of a request, and the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.contract.plan import Plan
from triptych.contract.specs import Scalar
from triptych.contract.steps.base import Environment, Scope, Step
from triptych.contract.steps.pictures.pictures import Pictures
from triptych.datatypes import Array

Predict = Callable[[Mapping[str, Array]], Mapping[str, Array]]  # from the model's inputs to its outputs


@dataclass(frozen=True)
class Moment:
    """The values that one step wrote. `values` are arrays, or lists of pictures of different sizes."""

    part: str
    step: str
    values: Mapping[str, Any]


def trace(
    plan: Plan, inputs: Mapping[str, Array], parameters: Mapping[str, Scalar], predict: Predict | None
) -> Iterator[Moment]:
    """The values of a request step by step; without `predict` up to the inputs of the model.

    Raises the errors of the steps and of the checks of the plan.
    """
    inputs = plan.of_contract(inputs)
    contract, rows = plan.contract, plan.check_inputs(inputs)
    checked = plan.check_parameters(parameters)
    yield Moment("request", "", inputs)
    yield from _steps("preprocess", contract.preprocess, plan.scope, Environment(inputs, rows, {}))
    values = plan.preprocess(inputs)  # with the check of the model's inputs
    if predict is None:
        return
    outputs = plan.predicted(predict(plan.model_inputs(values)), rows)
    yield Moment("model", "", outputs)
    outputs |= plan.carried_values(values)
    yield from _steps("postprocess", contract.postprocess, plan.scope, Environment(outputs, rows, checked))
    yield Moment("answer", "", plan.postprocess(outputs, checked))


def _steps(part: str, steps: Sequence[Step], scope: Scope, env: Environment) -> Iterator[Moment]:
    for number, step in enumerate(steps):
        with np.errstate(all="ignore"):
            step.compile(scope)(env)
        for name in step.writes():
            if isinstance(env.get(name), Pictures):
                env[name] = list(env[name])
        yield Moment(part, f"{number} {step.op}", {name: env[name] for name in step.writes() if name in env})
