"""What a step is: fields that validate, names it reads and writes, and a function it compiles to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from pydantic import Discriminator, Field, Tag

from triptych.contract.specs import AnyScalar, Document, InputSpec, Name, ParameterSpec, Scalar
from triptych.datatypes import Array

FEW: Final = 64  # elements up to which Python's own functions are faster than numpy's


class Environment(dict[str, Any]):
    """Values by name while a request is worked on.

    A value is a numpy array of `rows` rows or, from `decode_image` to `resize`, a sequence of `rows` pictures.
    Steps replace values and never write into one: it may be the caller's buffer.
    """

    __slots__ = ("parameters", "rows")

    def __init__(self, values: Mapping[str, Any], rows: int, parameters: Mapping[str, Scalar]) -> None:
        super().__init__(values)
        self.rows = rows
        self.parameters = parameters


Run = Callable[[Environment], None]


class ParameterRef(Document):
    """`{parameter: top_k}`: the value comes with the request."""

    parameter: Name


def _tag(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "(list)"
    return "(parameter)" if isinstance(value, (dict, ParameterRef)) else "(value)"


IntOrParameter = Annotated[
    Annotated[int, Tag("(value)")] | Annotated[ParameterRef, Tag("(parameter)")], Discriminator(_tag)
]
FloatOrParameter = Annotated[
    Annotated[float, Tag("(value)")] | Annotated[ParameterRef, Tag("(parameter)")], Discriminator(_tag)
]
NameOrParameter = Annotated[
    Annotated[Name, Tag("(value)")] | Annotated[ParameterRef, Tag("(parameter)")], Discriminator(_tag)
]

Numbers = Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
NumberOrList = Annotated[Annotated[float, Tag("(value)")] | Annotated[Numbers, Tag("(list)")], Discriminator(_tag)]
ScalarOrList = Annotated[
    Annotated[AnyScalar, Tag("(value)")]
    | Annotated[tuple[AnyScalar, ...], Field(strict=False, min_length=1), Tag("(list)")],
    Discriminator(_tag),
]


def value_of(setting: float | str | ParameterRef) -> Callable[[Environment], Any]:
    """How to get at a setting when the request is there: a constant, or its parameter."""
    if isinstance(setting, ParameterRef):
        name = setting.parameter
        return lambda env: env.parameters[name]
    return lambda env: setting


@dataclass(frozen=True)
class Scope:
    """What a contract declares beside its steps."""

    inputs: Mapping[str, InputSpec] = field(default_factory=dict)
    parameters: Mapping[str, ParameterSpec] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What is known of a value before any request: its last dimension, and how many classes its ids name."""

    width: int | None = None
    classes: int | None = None


class Step(Document):
    """One operation. A subclass sets `op: Literal["its_name"]`, its fields, and `compile`.

    The class variables say which fields hold names of values: read, read if there, written.
    """

    READS: ClassVar[tuple[str, ...]] = ("input",)
    READS_IF_THERE: ClassVar[tuple[str, ...]] = ()
    WRITES: ClassVar[tuple[str, ...]] = ("output",)
    PARAMETER_TYPES: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    op: str

    def compile(self, scope: Scope) -> Run:
        """The function that is called per request; everything that can be worked out before it, is."""
        raise NotImplementedError(f"step '{self.op}' has no compile method")

    def reads(self) -> Iterator[tuple[str, str, bool]]:
        """(field, name of the value, whether it must be there)."""
        for fields, needed in ((self.READS, True), (self.READS_IF_THERE, False)):
            for field_ in fields:
                for name in _names(getattr(self, field_)):
                    yield field_, name, needed

    def writes(self) -> Iterator[str]:
        for field_ in self.WRITES:
            yield from _names(getattr(self, field_))

    def parameters(self) -> Iterator[tuple[str, ParameterRef]]:
        """(field, reference) for every field that comes with the request."""
        for field_ in type(self).model_fields:
            value = getattr(self, field_)
            if isinstance(value, ParameterRef):
                yield field_, value

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        """(field, fault) for what can be wrong only together with the rest of the contract."""
        return iter(())

    def examples(self) -> dict[str, object]:
        """For values it reads, an element (or row) that it accepts, for the trial run of `verify`."""
        return {}

    def unpacked_bytes(self, inputs: Mapping[str, Array]) -> int:
        """How many bytes of memory it goes through beyond those of the inputs, by a quick look at them.

        The inputs have not been checked yet. Small work is done at once, and keeps everybody waiting meanwhile.
        """
        return 0

    def row_bytes(self) -> int:
        """Bytes of one row of its result, as far as its fields alone say; 0 where they do not."""
        return 0

    def made_bytes(self, env: Environment) -> int:
        """Most bytes that it makes of these values: no datatype is wider than 8 bytes."""
        return 8 * self.elements(env)

    def work(self, env: Environment) -> int:
        """About how many elements it goes through."""
        return self.elements(env)

    def elements(self, env: Environment) -> int:
        """Elements of the arrays that it reads, each as often as it is read."""
        return sum(np.size(env[name]) for _, name, _ in self.reads() if isinstance(env.get(name), np.ndarray))

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """What is known of the values written."""
        return dict.fromkeys(self.writes(), Facts())


def _names(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)  # type: ignore[arg-type]


class MapStep(Step):
    """A step from one value to one value: `output` is `input` unless said otherwise."""

    input: Name
    output: Annotated[Name | None, Field(description="name of the result; replaces `input` when left out")] = None

    @property
    def result(self) -> str:
        return self.output or self.input

    def writes(self) -> Iterator[str]:
        yield self.result

    def function(self, scope: Scope) -> Callable[[Any], Any]:
        """The map itself, for steps that need no more than the value."""
        raise NotImplementedError(f"step '{self.op}' has neither function nor compile")

    def compile(self, scope: Scope) -> Run:
        function, source, target = self.function(scope), self.input, self.result

        def run(env: Environment) -> None:
            env[target] = function(env[source])

        return run


class ElementwiseStep(MapStep):
    """A map that keeps the shape, so what was known stays known."""

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: facts.get(self.input, Facts())}


def extremes(array: Array) -> tuple[Any, Any]:
    """The smallest and the largest value of an array that has some; a NaN among them is both.

    A reduction of numpy takes 2 us, however few values there are; Python needs 1 us for both of 28 (2026-11-29).
    """
    if array.size <= FEW:
        values = array.ravel().tolist()
        if math.isfinite(sum(values)):  # otherwise one may be NaN, which min and max pass over
            return min(values), max(values)
    return np.minimum.reduce(array, axis=None), np.maximum.reduce(array, axis=None)


def first_row(bad: Array) -> int:
    """The first row with a True anywhere in it."""
    return int(bad.reshape(bad.shape[0], -1).any(axis=1).argmax())
