"""Steps on the dimensions of arrays. None touches the first dimension: rows stay rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from triptych.contract.specs import Name
from triptych.contract.steps.base import Environment, Facts, MapStep, Run, Scope, Step
from triptych.datatypes import Array, describe_array
from triptych.errors import ContractViolation

Axis = Annotated[int, Field(ge=1, le=7, description="never 0: rows stay rows")]
Dimension = Annotated[int, Field(ge=-1, le=1 << 30)]


class Reshape(MapStep):
    """Gives each row the dimensions of `shape`; one of them may be -1, what is left. `[-1]` makes a row flat."""

    op: Literal["reshape"]
    shape: Annotated[
        tuple[Dimension, ...], Field(strict=False, max_length=7, description="of a row; [] for a single value")
    ]

    @model_validator(mode="after")
    def _can_be_filled(self) -> Self:
        if 0 in self.shape or self.shape.count(-1) > 1:
            raise ValueError(f"shape: want sizes from 1, at most one -1; got {list(self.shape)}")
        return self

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        width = self.shape[-1] if self.shape else -1
        return {self.result: Facts(width=None if width == -1 else width)}

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        shape, name = self.shape, self.input

        def reshape(values: Array) -> Array:
            try:
                return values.reshape(len(values), *shape)
            except ValueError:
                raise ContractViolation(f"reshape: '{name}' is {describe_array(values)}, want {list(shape)}") from None

        return reshape


class Transpose(MapStep):
    """Reorders the dimensions of a row: `order: [2, 1]` swaps the two that follow the rows."""

    op: Literal["transpose"]
    order: Annotated[tuple[int, ...], Field(strict=False, min_length=2, max_length=7)]

    @model_validator(mode="after")
    def _is_a_permutation(self) -> Self:
        if sorted(self.order) != list(range(1, len(self.order) + 1)):
            raise ValueError(f"order: want each of 1 to {len(self.order)} once, got {list(self.order)}")
        return self

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        order = (0, *self.order)
        return lambda values: np.ascontiguousarray(values.transpose(order))


class Slice(MapStep):
    """Takes `start` to `stop` (exclusive) of a dimension; negative numbers count from its end."""

    op: Literal["slice"]
    axis: Axis = 1
    start: int = 0
    stop: Annotated[int | None, Field(description="the end of the dimension when left out")] = None

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        axis, start, stop, name = self.axis, self.start, self.stop, self.input

        def take(values: Array) -> Array:
            if values.ndim <= axis:
                raise ContractViolation(f"slice: '{name}' is {describe_array(values)} and has no dimension {axis}")
            size = values.shape[axis]
            first = start + size if start < 0 else start
            end = size if stop is None else stop + size if stop < 0 else stop
            if not 0 <= first < end <= size:
                raise ContractViolation(f"slice: want {first} to {end} of dimension {axis}, which has {size}")
            return values[(slice(None),) * axis + (slice(first, end),)]

        return take


class Squeeze(MapStep):
    """Removes a dimension of size 1."""

    op: Literal["squeeze"]
    axis: Axis = 1

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        axis, name = self.axis, self.input

        def squeeze(values: Array) -> Array:
            if values.ndim <= axis or values.shape[axis] != 1:
                raise ContractViolation(f"squeeze: '{name}' is {describe_array(values)}, want 1 in dimension {axis}")
            return values.squeeze(axis)

        return squeeze


class Rename(Step):
    """Gives a value another name. The old name stays."""

    op: Literal["rename"]
    input: Name
    output: Name

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.output: facts.get(self.input, Facts())}

    def compile(self, scope: Scope) -> Run:
        source, target = self.input, self.output

        def run(env: Environment) -> None:
            env[target] = env[source]

        return run


STEPS: Final[tuple[type[Step], ...]] = (Reshape, Transpose, Slice, Squeeze, Rename)
