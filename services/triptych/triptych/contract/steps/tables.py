"""Steps on columns of numbers and words: from the inputs to the features of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from triptych.contract.specs import Name, Number, TensorSpec, check_interval, interval_text
from triptych.contract.steps.base import (
    ElementwiseStep,
    Environment,
    Facts,
    Run,
    ScalarOrList,
    Scope,
    Step,
    cast_to_float,
    extremes,
    first_row,
    first_value,
)
from triptych.datatypes import FLOATS, TO_NUMPY, Array, Datatype, Numeric, describe_array
from triptych.errors import ContractViolation, InvalidInput

MAX_CONSTANT: Final = 65536  # values in a row


class Require(Step):
    """Makes an optional input present: fills in `default` when it was left out, or refuses the request."""

    READS = ()
    READS_IF_PRESENT = ("input",)
    WRITES = ("input",)

    op: Literal["require"]
    input: Name
    default: Annotated[
        ScalarOrList | None,
        Field(description="one value for all elements, or one for each element of a row"),
    ] = None

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        spec = scope.inputs.get(self.input)
        if spec is None:
            yield "input", f"'{self.input}' is not an input of the contract"
        elif self.default is not None:
            try:
                _one_row(self.default, spec)
            except (ValueError, OverflowError) as error:
                yield "default", f"does not fit {spec.text}: {error}"

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.input: facts.get(self.input, Facts())}

    def compile(self, scope: Scope) -> Run:
        name, spec = self.input, scope.inputs[self.input]
        row = None if self.default is None else _one_row(self.default, spec)

        def run(env: Environment) -> None:
            if name not in env:
                if row is None:
                    raise InvalidInput(name, spec.text, "nothing")
                env[name] = np.repeat(row, env.rows, axis=0)

        return run


class Constant(Step):
    """The same value in every row, such as a sample rate that the model takes as an input."""

    READS = ()

    op: Literal["constant"]
    output: Name
    value: Annotated[ScalarOrList, Field(description="one value for all elements, or a list for the last dimension")]
    datatype: Datatype
    shape: Annotated[
        tuple[Annotated[int, Field(ge=1, le=65536)], ...],
        Field(strict=False, max_length=7, description="of a row; [] for a single value"),
    ] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if math.prod(self.shape) > MAX_CONSTANT:
            raise ValueError(f"shape: want at most {MAX_CONSTANT} values in a row, got {math.prod(self.shape)}")
        try:
            self._row()
        except (ValueError, OverflowError) as error:
            raise ValueError(f"value: does not fit {self._spec().text}: {error}") from None
        return self

    def row_bytes(self) -> int:
        return math.prod(self.shape) * TO_NUMPY[self.datatype].itemsize

    def made_bytes(self, env: Environment) -> int:
        return env.rows * self.row_bytes()

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.output: Facts(width=self.shape[-1] if self.shape else None)}

    def compile(self, scope: Scope) -> Run:
        row, target = self._row(), self.output

        def run(env: Environment) -> None:
            env[target] = np.repeat(row, env.rows, axis=0)

        return run

    def _row(self) -> Array:
        return _one_row(self.value, self._spec())

    def _spec(self) -> TensorSpec:
        return TensorSpec(name=self.output, datatype=self.datatype, shape=(-1, *self.shape))


def _one_row(default: object, spec: TensorSpec) -> Array:
    """`default` as an array [1, ...] of the tensor's datatype and shape."""
    if -1 in spec.shape[1:]:
        raise ValueError("a default needs an input of fixed shape")
    if isinstance(default, str) != (spec.datatype == "BYTES"):
        raise ValueError(f"{default!r} is not {spec.datatype}")
    if spec.datatype == "BYTES":
        row = np.empty((1, *spec.shape[1:]), np.object_)
        row[...] = str(default).encode()
        return row
    value = np.asarray(default)
    with np.errstate(over="ignore"):
        exact = value.astype(TO_NUMPY[spec.datatype])
    if spec.datatype in FLOATS and not np.isfinite(exact).all():
        raise ValueError(f"{default!r} is beyond {spec.datatype}")
    if not np.array_equal(exact.astype(np.float64), value.astype(np.float64)) and spec.datatype not in FLOATS:
        raise ValueError(f"{default!r} is not {spec.datatype}")
    return np.broadcast_to(exact, (1, *spec.shape[1:])).copy()


class Cast(ElementwiseStep):
    """Changes the datatype. Cuts fractions off (put `round` before it); refuses values that do not fit."""

    op: Literal["cast"]
    datatype: Numeric

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        dtype, name = TO_NUMPY[self.datatype], self.input
        if dtype.kind == "f":
            return lambda values: cast_to_float(values, dtype, name)
        if dtype.kind not in "iu":
            return lambda values: values.astype(dtype)
        info = np.iinfo(dtype)
        # The limits as floats: the first float that does not fit, since 2**63 - 1 itself is none.
        low, end = float(info.min) - 1.0, float(info.max) + 1.0
        want = f"values that fit {self.datatype}"

        def cast(values: Array) -> Array:
            if values.dtype.kind == "f":
                least, most = extremes(values) if values.size else (0.0, 0.0)
                if most < end and (least > low or least == info.min):
                    return values.astype(dtype)
                with np.errstate(invalid="ignore"):
                    fits = (values < end) & ((values > low) | (values == info.min))
            elif values.dtype == np.bool_ or np.can_cast(values.dtype, dtype):
                return values.astype(dtype)
            else:
                fits = (values >= info.min) & (values <= info.max)
            if not fits.all():
                row = first_row(~fits)
                raise InvalidInput(name, want, f"row {row}: {first_value(values[row], ~fits[row])}")
            return values.astype(dtype)

        return cast


class Range(ElementwiseStep):
    """Refuses the request when a value lies outside; NaN lies outside of every range. Changes nothing."""

    op: Literal["range"]
    minimum: Number | None = None
    maximum: Number | None = None
    exclusive_minimum: Number | None = None
    exclusive_maximum: Number | None = None

    @property
    def limits(self) -> dict[str, int | float]:
        names = ("minimum", "maximum", "exclusive_minimum", "exclusive_maximum")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _has_limits(self) -> Self:
        if not self.limits:
            raise ValueError("give at least one limit")
        check_interval(self.limits)
        return self

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        return range_check(self.input, self.limits)


_OUTSIDE: Final[Mapping[str, Callable[[Array, Any], Array]]] = {
    "minimum": lambda values, limit: ~(values >= limit),
    "exclusive_minimum": lambda values, limit: ~(values > limit),
    "maximum": lambda values, limit: ~(values <= limit),
    "exclusive_maximum": lambda values, limit: ~(values < limit),
}


def range_check(name: str, limits: dict[str, int | float]) -> Callable[[Array], Array]:
    """Function that returns its values, or raises InvalidInput with the first row and value outside of the limits."""
    tests = [(_OUTSIDE[end], limit) for end, limit in limits.items()]
    want = f"values {interval_text(limits)}"

    def check(values: Array) -> Array:
        for outside, limit in tests:
            bad = outside(values, limit)
            if bad.any():
                row = first_row(bad)
                raise InvalidInput(name, want, f"row {row}: {first_value(values[row], bad[row])}")
        return values

    return check


class Concatenate(Step):
    """Joins values of one datatype along a dimension; a value of shape [n] counts as one column [n,1]."""

    READS = ("inputs",)

    op: Literal["concatenate"]
    inputs: Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]
    output: Name
    axis: Annotated[int, Field(ge=1, le=7, description="never 0: rows stay rows")] = 1

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        widths = [facts.get(name, Facts()).width for name in self.inputs]
        known = [width for width in widths if width is not None]
        added = self.axis == 1 and len(known) == len(widths)
        return {self.output: Facts(width=sum(known) if added else None)}

    def compile(self, scope: Scope) -> Run:
        names, target, axis = self.inputs, self.output, self.axis

        def run(env: Environment) -> None:
            parts: list[Array] = []
            for name in names:
                part = env[name]
                if parts and part.dtype != parts[0].dtype:
                    listed = ", ".join(f"{each} {describe_array(env[each])}" for each in names)
                    raise ContractViolation(f"concatenate: datatypes differ: {listed}")
                parts.append(part[:, np.newaxis] if part.ndim == 1 else part)
            env[target] = np.concatenate(parts, axis=axis)

        return run


STEPS: Final[tuple[type[Step], ...]] = (Require, Constant, Cast, Range, Concatenate)
