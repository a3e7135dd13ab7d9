"""The cost limits of a contract, computed from declared sizes before anything of that size is allocated."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from triptych.contract.errors import Location, Problem
from triptych.contract.schema.contract import Contract
from triptych.contract.specs import TensorSpec
from triptych.contract.steps.base import Environment, Step
from triptych.datatypes import TO_NUMPY

ANY: Final = 16  # size of an open dimension in the trial


@dataclass(frozen=True)
class TrialLimits:
    """Most bytes of one row of a tensor, and most seconds of the trial on made-up rows."""

    row_bytes: int = 64 << 20
    seconds: float = 10.0

    @property
    def held_bytes(self) -> int:
        """Most bytes of all values at once, with the results of a step."""
        return 6 * self.row_bytes

    @property
    def work(self) -> int:
        """Most elements that one step processes."""
        return 1_000_000_000


def oversized(contract: Contract, limits: TrialLimits) -> Iterator[Problem]:
    """Tensors and steps whose declared size is too large."""
    groups: tuple[tuple[Location, tuple[TensorSpec, ...]], ...] = (
        (("inputs",), contract.inputs),
        (("model", "inputs"), contract.model.inputs),
        (("model", "outputs"), contract.model.outputs),
        (("outputs",), contract.outputs),
    )
    for path, specs in groups:
        for i, spec in enumerate(specs):
            if (size := row_bytes(spec)) > limits.row_bytes:
                yield Problem((*path, i, "shape"), _sentence(size, limits))
    for stage, steps in (("preprocess", contract.preprocess), ("postprocess", contract.postprocess)):
        for i, step in enumerate(steps):
            if (size := step.row_bytes()) > limits.row_bytes:
                yield Problem((stage, i), f"{step.op}: {_sentence(size, limits)}")


class Budget:
    """The remaining limits while the steps of one contract run."""

    def __init__(self, limits: TrialLimits) -> None:
        self._limits = limits
        self._until = time.monotonic() + limits.seconds

    def refusal(self, step: Step, env: Environment) -> str:
        """Why a step must not run on the made-up rows; '' if it may."""
        held = sum(value.nbytes for value in env.values() if isinstance(value, np.ndarray))
        if (needed := held + step.made_bytes(env)) > self._limits.held_bytes:
            return f"{step.op} takes {needed} bytes for {env.rows} rows, want at most {self._limits.held_bytes}"
        if (work := step.work(env)) > self._limits.work:
            return f"{step.op} goes through {work} elements for {env.rows} rows, want at most {self._limits.work}"
        if time.monotonic() > self._until:
            return f"the steps before {step.op} took more than {self._limits.seconds:g} s on {env.rows} rows"
        return ""


def row_bytes(spec: TensorSpec) -> int:
    """Bytes of one row of a tensor; an open dimension counts as `ANY`."""
    return math.prod(ANY if dim == -1 else dim for dim in spec.shape[1:]) * TO_NUMPY[spec.datatype].itemsize


def _sentence(size: int, limits: TrialLimits) -> str:
    return f"one row takes {size} bytes, want at most {limits.row_bytes}"
