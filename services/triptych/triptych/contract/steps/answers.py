"""Steps on the model's outputs: from its numbers to the numbers and words of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from triptych.contract.specs import Name, Number
from triptych.contract.steps.base import (
    ElementwiseStep,
    Environment,
    Facts,
    FloatsOrParameter,
    IntOrParameter,
    MapStep,
    NameOrParameter,
    NumberOrList,
    ParameterRef,
    Run,
    Scope,
    Step,
    cast_to_float,
    extremes,
    first_row,
    float_of,
    refuse_nan,
    value_of,
    widened,
)
from triptych.contract.steps.step_file import FilePath, words_of
from triptych.datatypes import Array, describe_array, name_of
from triptych.errors import ContractViolation, InvalidInput, InvalidParameter


class Argmax(MapStep):
    """The index (INT32) of the largest value along the last dimension, or `axis`; of equal ones the lower.

    Scores [n,c,h,w] of a segmentation become classes [n,h,w] with `axis: 1`. NaN is refused.
    """

    op: Literal["argmax"]
    axis: Annotated[int | None, Field(ge=1, le=7, description="the last dimension when left out")] = None

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(classes=facts.get(self.input, Facts()).width if self.axis is None else None)}

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        axis, name = -1 if self.axis is None else self.axis, self.input

        def argmax(values: Array) -> Array:
            if values.ndim <= axis:
                raise ContractViolation(f"argmax: '{name}' is {describe_array(values)} and has no dimension {axis}")
            best = values.argmax(axis=axis)  # the place of NaN in a row that has one
            refuse_nan(self.op, name, np.take_along_axis(values, np.expand_dims(best, axis), axis=axis))
            return np.asarray(best, np.int32)

        return argmax


class TopK(MapStep):
    """The `k` largest values along the last dimension, largest first, and their indices (INT32).

    Equal values keep the order of their indices, so a row's answer does not depend on the other rows of its batch. NaN
    comes last, and is refused where it would be among the `k`.
    """

    WRITES = ("output", "indices")
    PARAMETER_TYPES = {"k": ("int64",)}

    op: Literal["top_k"]
    k: IntOrParameter
    indices: Name

    @model_validator(mode="after")
    def _two_results(self) -> Self:
        if self.indices == self.result:
            raise ValueError(f"indices: '{self.indices}' is already the name of the values")
        if isinstance(self.k, int) and self.k < 1:
            raise ValueError(f"k: must be at least 1, got {self.k}")
        return self

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        width, least, most = facts.get(self.input, Facts()).width, 1, self.k
        if isinstance(most, ParameterRef):
            parameter = scope.parameters.get(most.parameter)
            if parameter is None or parameter.type != "int64":
                return
            if parameter.minimum is None or parameter.maximum is None:
                yield "k", f"parameter '{parameter.name}' needs a minimum and a maximum"
                return
            least, most = int(parameter.minimum), int(parameter.maximum)
        if least < 1:
            yield "k", f"the parameter's minimum is {least}, must be at least 1"
        if width is not None and most > width:
            yield "k", f"{most} is more than the {width} values of '{self.input}'"

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        width = self.k if isinstance(self.k, int) else None
        return {
            self.result: Facts(width=width),
            self.indices: Facts(width=width, classes=facts.get(self.input, Facts()).width),
        }

    def compile(self, scope: Scope) -> Run:
        source, target, indices, k_of = self.input, self.result, self.indices, value_of(self.k)
        parameter = self.k.parameter if isinstance(self.k, ParameterRef) else None

        def run(env: Environment) -> None:
            values, k = env[source], k_of(env)
            if k > values.shape[-1]:
                if parameter is None:
                    raise ContractViolation(f"top_k: k is {k}, but '{source}' has {values.shape[-1]} values")
                raise InvalidParameter(parameter, f"at most {values.shape[-1]}", str(k))
            order = _descending(values)[..., :k]
            chosen = np.take_along_axis(values, order, axis=-1)
            refuse_nan("top_k", source, chosen)
            env[target] = chosen
            env[indices] = order.astype(np.int32)

        return run


def _descending(values: Array) -> Array:
    """Indices from largest to smallest, stable; NaN last."""
    if values.dtype.kind == "f":
        return np.asarray(np.argsort(-values, axis=-1, kind="stable"))
    # -x overflows for the smallest integer and for unsigned: sort the mirror image upwards instead.
    mirrored = np.argsort(values[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    return np.asarray(values.shape[-1] - 1 - mirrored)


class Softmax(ElementwiseStep):
    """Scores to probabilities along the last dimension; floating datatypes stay as they are, integers become FP32."""

    op: Literal["softmax"]

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        def softmax(values: Array) -> Array:
            wide = widened(values)
            out = np.exp(wide - wide.max(axis=-1, keepdims=True))
            out /= out.sum(axis=-1, keepdims=True)
            return cast_to_float(out, float_of(values), self.input)

        return softmax


class Sigmoid(ElementwiseStep):
    """`1 / (1 + exp(-x))`, without overflow for large negative x; floating datatypes stay, integers become FP32."""

    op: Literal["sigmoid"]

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        def sigmoid(values: Array) -> Array:
            small = np.exp(-np.abs(widened(values)))
            return cast_to_float(np.where(values >= 0, 1, small) / (1 + small), float_of(values), self.input)

        return sigmoid


class Threshold(MapStep):
    """Whether each value reaches the minimum, as BOOL. NaN does not.

    `minimum` is one number, a list with one for each class (the last dimension), or a request parameter.
    """

    PARAMETER_TYPES = {"minimum": ("double", "int64")}

    op: Literal["threshold"]
    minimum: FloatsOrParameter

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        width = facts.get(self.input, Facts()).width
        if isinstance(self.minimum, tuple) and width not in (None, len(self.minimum)):
            yield "minimum", f"{len(self.minimum)} numbers for {width} classes"

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(width=facts.get(self.input, Facts()).width)}

    def compile(self, scope: Scope) -> Run:
        minimum = value_of(np.asarray(self.minimum) if isinstance(self.minimum, tuple) else self.minimum)
        source, target = self.input, self.result

        def run(env: Environment) -> None:
            values, least = env[source], minimum(env)
            if isinstance(least, np.ndarray) and values.dtype.kind == "f":
                least = least.astype(values.dtype)  # as numpy compares with a single number
            env[target] = values >= least

        return run


class Clip(ElementwiseStep):
    """Moves values outside of the limits to the nearest limit. For answers only; `range` refuses instead."""

    op: Literal["clip"]
    minimum: Number | None = None
    maximum: Number | None = None

    @model_validator(mode="after")
    def _has_limits(self) -> Self:
        if self.minimum is None and self.maximum is None:
            raise ValueError("give minimum, maximum or both")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        low, high = self.minimum, self.maximum

        def clip(values: Array) -> Array:
            if values.dtype.kind == "f":  # np.clip does the same, 3 us slower
                values = values if low is None else np.maximum(values, low)
                return values if high is None else np.minimum(values, high)
            return np.clip(values, low, high)

        return clip


class Round(ElementwiseStep):
    """To the nearest whole number, or to `decimals` places; a half goes to the even one (IEEE 754)."""

    op: Literal["round"]
    decimals: Annotated[int, Field(ge=0, le=15)] = 0

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        decimals = self.decimals

        def rounded(values: Array) -> Array:
            if not decimals or values.dtype.kind != "f":
                return values.round(decimals)
            wide = values.astype(np.float64, copy=False)
            out = wide.round(decimals)  # multiplies by a power of 10: what is infinite then had no decimals
            return np.where(np.isfinite(out), out, wide).astype(values.dtype, copy=False)

        return rounded


class Scale(ElementwiseStep):
    """`x * scale + offset`; one number, or one for each column. Integers become FP32, floats stay."""

    op: Literal["scale"]
    scale: NumberOrList = 1.0
    offset: NumberOrList = 0.0

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        scale, offset = np.asarray(self.scale, np.float64), np.asarray(self.offset, np.float64)

        def run(values: Array) -> Array:
            wide = widened(values)
            scaled = wide * scale.astype(wide.dtype) + offset.astype(wide.dtype)
            return cast_to_float(scaled, float_of(values), self.input)

        return run


class Sum(MapStep):
    """The sum along one dimension. Integers and BOOL are summed as INT64 (unsigned as UINT64). Refuses overflow."""

    op: Literal["sum"]
    axis: Annotated[int, Field(ge=1, le=7, description="never 0: rows stay rows")] = 1

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        axis, name = self.axis, self.input

        def total(values: Array) -> Array:
            if values.dtype.kind == "f":
                return cast_to_float(np.add.reduce(widened(values), axis), values.dtype, name)
            if values.dtype.itemsize == 8:
                _refuse_overflow(values, axis, name)
            return np.asarray(np.add.reduce(values, axis))

        return total


_RANGES: Final = {np.dtype(each): np.iinfo(each) for each in (np.int64, np.uint64)}


def _refuse_overflow(values: Array, axis: int, name: str) -> None:
    """Raises InvalidInput if a sum of INT64 or UINT64 would wrap."""
    if not values.size:
        return
    (least, most), info = extremes(values), _RANGES[values.dtype]
    if values.shape[axis] * max(-int(least), int(most)) <= info.max:
        return
    exact = np.add.reduce(values.astype(np.object_), axis)
    lost = np.asarray((exact < info.min) | (exact > info.max), np.bool_)
    if lost.any():
        raise InvalidInput(name, f"a sum that fits {name_of(values.dtype)}", f"row {first_row(lost)}: more")


class Label(MapStep):
    """Ids to words (BYTES, UTF-8). `labels` names a table, or a parameter whose choices are tables.

    `file` is a table beside the contract in place of it, one word a line. `none` is the word of id -1, such as that of
    an unused place of `nms`.
    """

    PARAMETER_TYPES = {"labels": ("string",)}
    FILES = ("file",)

    op: Literal["label"]
    labels: NameOrParameter | None = None
    file: FilePath | None = None
    none: Annotated[str | None, Field(description="the word of id -1, which is refused when left out")] = None

    @model_validator(mode="after")
    def _one_table(self) -> Self:
        if (self.labels is None) == (self.file is None):
            raise ValueError("give labels or file")
        return self

    def tables(self, scope: Scope) -> tuple[str, ...]:
        if self.labels is None or isinstance(self.labels, str):
            return () if self.labels is None else (self.labels,)
        parameter = scope.parameters.get(self.labels.parameter)
        return (parameter.choices or ()) if parameter is not None else ()

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        if not self.tables(scope) and isinstance(self.labels, ParameterRef):
            yield "labels", f"parameter '{self.labels.parameter}' needs choices, the names of label tables"
        classes = facts.get(self.input, Facts()).classes
        for name in self.tables(scope):
            if name not in scope.labels:
                yield "labels", f"no label table '{name}'; known: {', '.join(sorted(scope.labels)) or 'none'}"
            elif classes is not None and len(scope.labels[name]) < classes:
                yield "labels", f"table '{name}' has {len(scope.labels[name])} labels for {classes} classes"

    def compile(self, scope: Scope) -> Run:
        last = () if self.none is None else (self.none,)  # which id -1 finds as numpy counts
        tables = {name: _words((*scope.labels[name], *last)) for name in self.tables(scope)}
        if self.file is not None:
            tables[self.file] = _words((*words_of(self.file, scope.file(self.file)), *last))
        source, target, chosen, least = self.input, self.result, value_of(self.labels or self.file or ""), -len(last)

        def run(env: Environment) -> None:
            ids, table = env[source], tables[chosen(env)]
            most = len(table) - 1 + least
            if ids.size and not (ids.min() >= least and ids.max() <= most):
                raise ContractViolation(f"label: '{source}' has an id outside {least}..{most}")
            env[target] = table[ids]

        return run


def _words(labels: tuple[str, ...]) -> Array:
    table = np.empty(len(labels), np.object_)
    table[:] = [label.encode() for label in labels]
    return table


STEPS: Final[tuple[type[Step], ...]] = (
    Argmax, TopK, Softmax, Sigmoid, Threshold, Clip, Round, Scale, Sum, Label
)  # fmt: skip
