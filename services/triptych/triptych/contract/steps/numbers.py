"""Steps on single numbers: functions with a domain, and values for those that are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from triptych.contract.specs import Name
from triptych.contract.steps.base import (
    ElementwiseStep,
    Environment,
    Facts,
    Run,
    ScalarOrList,
    Scope,
    Step,
    cast_to_float,
    first_row,
    float_of,
    widened,
)
from triptych.datatypes import Array, describe_array, name_of
from triptych.errors import ContractViolation, InvalidInput


class _Function(ElementwiseStep):
    """A function of numpy, element by element. Integers become FP32, floats stay; NaN stays NaN."""

    FUNCTION: ClassVar[np.ufunc]
    WANT: ClassVar[str]

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        compute, name, want = type(self).FUNCTION, self.input, self.WANT

        def run(values: Array) -> Array:
            numbers = values if values.dtype.kind == "f" else values.astype(np.float32)
            out = np.asarray(compute(numbers))
            if not np.isfinite(out).all():
                bad = ~np.isfinite(out) & np.isfinite(numbers)
                if bad.any():
                    row = first_row(bad)
                    got = np.asarray(numbers[row])[np.asarray(bad[row])].flat[0].item()
                    raise InvalidInput(name, want, f"row {row}: {got}")
            return out

        return run


class Log(_Function):
    """The natural logarithm; a value of 0 or less is refused. Integers become FP32, floats stay."""

    FUNCTION = np.log
    WANT = "values > 0"
    op: Literal["log"]


class Log1p(_Function):
    """`log(1 + x)`, exact for small x; a value of -1 or less is refused. Integers become FP32, floats stay."""

    FUNCTION = np.log1p
    WANT = "values > -1"
    op: Literal["log1p"]


class Exp(_Function):
    """`exp(x)`; a value whose result is infinite is refused. Integers become FP32, floats stay."""

    FUNCTION = np.exp
    WANT = "values whose exponential is finite"
    op: Literal["exp"]


class Expm1(_Function):
    """`exp(x) - 1`, exact for small x; a value whose result is infinite is refused. Integers become FP32."""

    FUNCTION = np.expm1
    WANT = "values whose exponential is finite"
    op: Literal["expm1"]


class Impute(ElementwiseStep):
    """Puts `value` in place of what is missing: NaN, or one of the values listed in `missing`.

    `value` is one for all, or a list with one for each column (the last dimension). An input that may hold NaN needs
    `finite: false`.
    """

    op: Literal["impute"]
    value: ScalarOrList
    missing: Annotated[
        ScalarOrList | None, Field(description="the value or values that stand for a missing one; NaN when left out")
    ] = None

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        name, value, missing = self.input, self.value, self.missing

        def impute(values: Array) -> Array:
            if missing is not None:
                absent = np.isin(values, _as(values.dtype, missing, "missing"))
            elif values.dtype.kind == "f":
                absent = np.isnan(values)
            else:
                raise ContractViolation(f"impute: '{name}' is {name_of(values.dtype)}, which has no NaN; give missing")
            if not absent.any():
                return values
            return np.asarray(np.where(absent, _as(values.dtype, value, "value"), values), values.dtype)

        return impute


class Multiply(Step):
    """The product of values, such as objectness [n,m,1] and class scores [n,m,c] of a detector.

    Dimensions of 1 are repeated as far as one of the values goes. Floats stay, integers and BOOL become FP32.
    """

    READS = ("inputs",)

    op: Literal["multiply"]
    inputs: Annotated[tuple[Name, ...], Field(strict=False, min_length=2, max_length=8)]
    output: Name

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        widths = [facts.get(name, Facts()).width for name in self.inputs]
        return {self.output: Facts(width=None if None in widths else max(width or 1 for width in widths))}

    def compile(self, scope: Scope) -> Run:
        names, target = self.inputs, self.output

        def run(env: Environment) -> None:
            values = [np.asarray(env[name]) for name in names]
            shapes = [value.shape for value in values]
            try:
                shape = np.broadcast_shapes(*shapes)
            except ValueError:
                shape = ()
            if shape not in shapes or any(len(each) != len(shape) for each in shapes):
                listed = ", ".join(f"'{name}' {describe_array(env[name])}" for name in names)
                raise ContractViolation(f"multiply: want one shape, or 1 in place of a dimension; got {listed}")
            dtype = np.result_type(*(float_of(value) for value in values))
            product = widened(values[0].astype(dtype))
            for value in values[1:]:
                product = product * value.astype(product.dtype)
            env[target] = cast_to_float(np.asarray(product), dtype, target)

        return run


def _as(dtype: np.dtype[Any], value: Any, field: str) -> Array:
    """Values of the contract in the datatype of the array. Raises `ContractViolation` if they are not of it."""
    many = list(value) if isinstance(value, tuple) else [value]
    if any(isinstance(each, str) != (dtype == np.object_) for each in many):
        raise ContractViolation(f"impute: {field} {value!r} is not {name_of(dtype)}")
    array = np.empty(len(many), dtype)
    array[:] = [each.encode() if isinstance(each, str) else each for each in many]
    if dtype.kind == "f" and np.isinf(array).any():
        raise ContractViolation(f"impute: {field} {value!r} is beyond {name_of(dtype)}")
    if dtype.kind in "iub" and [each.item() for each in array] != many:
        raise ContractViolation(f"impute: {field} {value!r} is not {name_of(dtype)}")
    return array


STEPS: Final[tuple[type[Step], ...]] = (Log, Log1p, Exp, Expm1, Impute, Multiply)
