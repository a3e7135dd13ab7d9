"""Steps on single numbers: functions with a domain, and values for those that are missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from triptych.contract.steps.base import ElementwiseStep, ScalarOrList, Scope, Step, first_row
from triptych.datatypes import Array, name_of
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


STEPS: Final[tuple[type[Step], ...]] = (Log, Log1p, Exp, Expm1, Impute)
