"""Base of all steps: validated fields, names of the values read and written, and a compiled function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, NamedTuple

import numpy as np
from pydantic import Discriminator, Field, Tag

from triptych.contract.specs import AnyScalar, InputSpec, Name, ParameterSpec, Scalar, StrictModel
from triptych.contract.steps.step_file import WORD_BYTES, StepFile, word_count
from triptych.datatypes import Array, name_of
from triptych.errors import ContractViolation, InvalidInput

FEW: Final = 64  # elements up to which Python finds the extremes faster than numpy


class Environment(dict[str, Any]):
    """Values of a request by name.

    A value is a numpy array of `rows` rows or, from `decode_image` to `resize`, a sequence of `rows` pictures.
    Steps replace values and never write into one, since it may be the caller's buffer.
    """

    __slots__ = ("parameters", "rows")

    def __init__(self, values: Mapping[str, Any], rows: int, parameters: Mapping[str, Scalar]) -> None:
        super().__init__(values)
        self.rows = rows
        self.parameters = parameters


Run = Callable[[Environment], None]


class ParameterRef(StrictModel):
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
FloatsOrParameter = Annotated[
    Annotated[float, Tag("(value)")]
    | Annotated[tuple[float, ...], Field(strict=False, min_length=1), Tag("(list)")]
    | Annotated[ParameterRef, Tag("(parameter)")],
    Discriminator(_tag),
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


def value_of(setting: float | str | Array | ParameterRef) -> Callable[[Environment], Any]:
    """Function from a request to the value of a setting: a constant, or a request parameter."""
    if isinstance(setting, ParameterRef):
        name = setting.parameter
        return lambda env: env.parameters[name]
    return lambda env: setting


@dataclass(frozen=True)
class Scope:
    """Declarations of a contract that its steps refer to, and the files of its version that they read, by path."""

    inputs: Mapping[str, InputSpec] = field(default_factory=dict)
    parameters: Mapping[str, ParameterSpec] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, StepFile] = field(default_factory=dict)

    def file(self, path: str) -> StepFile:
        """The file that a step names. Raises `ContractViolation` if it did not come with the contract."""
        if path not in self.files:
            raise ContractViolation(f"the file {path} is not here; want it beside the contract")
        return self.files[path]


@dataclass(frozen=True)
class Facts:
    """Facts about a value that are known without a request: its last dimension, and its number of classes.

    `grows` is the field of a step by which another dimension than the rows depends on the request.
    """

    width: int | None = None
    classes: int | None = None
    grows: str = ""


class KeptBytes(NamedTuple):
    """Bytes that a compiled step keeps: its own, and those that steps of other plans share, by a name."""

    own: int = 0
    shared: Mapping[str, int] = MappingProxyType({})


class Step(StrictModel):
    """One operation. A subclass sets `op: Literal["its_name"]`, its fields, and `compile`.

    The class variables name the fields that hold names of values (read, read if present, written), and paths of files.
    """

    READS: ClassVar[tuple[str, ...]] = ("input",)
    READS_IF_PRESENT: ClassVar[tuple[str, ...]] = ()
    WRITES: ClassVar[tuple[str, ...]] = ("output",)
    FILES: ClassVar[tuple[str, ...]] = ()
    PARAMETER_TYPES: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    op: str

    def compile(self, scope: Scope) -> Run:
        """Function that runs for each request. Everything independent of the request is computed here."""
        raise NotImplementedError(f"step '{self.op}' has no compile method")

    def reads(self) -> Iterator[tuple[str, str, bool]]:
        """(field, name of the value, whether it is required)."""
        for fields, needed in ((self.READS, True), (self.READS_IF_PRESENT, False)):
            for field_ in fields:
                for name in _names(getattr(self, field_)):
                    yield field_, name, needed

    def writes(self) -> Iterator[str]:
        """Names of the values written."""
        for field_ in self.WRITES:
            yield from _names(getattr(self, field_))

    def parameters(self) -> Iterator[tuple[str, ParameterRef]]:
        """(field, reference) for every field whose value is a request parameter."""
        for field_ in type(self).model_fields:
            value = getattr(self, field_)
            if isinstance(value, ParameterRef):
                yield field_, value

    def files(self) -> Iterator[tuple[str, str]]:
        """(field, path) for every file of the version that it reads. Their content is in the scope of `compile`."""
        for field_ in self.FILES:
            for path in _names(getattr(self, field_)):
                yield field_, path

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        """(field, fault) for faults that depend on the rest of the contract."""
        return iter(())

    def examples(self) -> dict[str, object]:
        """An acceptable element or row for some values that it reads, for the trial run."""
        return {}

    def reading_fault(self, scope: Scope, max_bytes: int, max_s: float) -> str:
        """Why `compile` must not read its files, which takes more memory or CPU than this; '' if it may. For trials."""
        return ""

    def kept_bytes(self, scope: Scope, max_bytes: int, max_s: float) -> KeptBytes:
        """Bytes that the compiled step keeps of its files.

        Raises `ContractViolation` if reading a file takes more memory or CPU than this.
        """
        files = ((path, scope.file(path).content) for _, path in self.files())
        return KeptBytes(sum(2 * len(content) + WORD_BYTES * word_count(path, content) for path, content in files))

    def unpacked_bytes(self, inputs: Mapping[str, Array]) -> int:
        """Estimate of the bytes that it makes of these inputs, which are not checked yet.

        Small work runs on the event loop and blocks it, so what grows by a step has to count.
        """
        return 0

    def row_bytes(self) -> int:
        """Bytes of one row of its result by its fields alone; 0 if they do not determine it."""
        return 0

    def made_bytes(self, env: Environment) -> int:
        """Upper bound of the bytes that it allocates for these values: no datatype is wider than 8 bytes."""
        return 8 * self.elements(env)

    def work(self, env: Environment) -> int:
        """Estimate of the number of elements that it processes."""
        return self.elements(env)

    def elements(self, env: Environment) -> int:
        """Number of elements of the arrays that it reads, each counted as often as it is read."""
        return sum(np.size(env[name]) for _, name, _ in self.reads() if isinstance(env.get(name), np.ndarray))

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        """Facts about the values written."""
        return dict.fromkeys(self.writes(), Facts())


def _names(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)  # type: ignore[arg-type]


class MapStep(Step):
    """A step from one value to one value. `output` is `input` by default."""

    input: Name
    output: Annotated[Name | None, Field(description="name of the result; replaces `input` when left out")] = None

    @property
    def result(self) -> str:
        """Name of the value written."""
        return self.output or self.input

    def writes(self) -> Iterator[str]:
        for field_ in self.WRITES:
            yield from _names(self.result if field_ == "output" else getattr(self, field_))

    def function(self, scope: Scope) -> Callable[[Any], Any]:
        """Function of the value, for steps that need nothing else."""
        raise NotImplementedError(f"step '{self.op}' has neither function nor compile")

    def compile(self, scope: Scope) -> Run:
        function, source, target = self.function(scope), self.input, self.result

        def run(env: Environment) -> None:
            env[target] = function(env[source])

        return run


class ElementwiseStep(MapStep):
    """A map that keeps the shape, and so the facts."""

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: facts.get(self.input, Facts())}


def extremes(array: Array) -> tuple[Any, Any]:
    """Smallest and largest value of a non-empty array; both are NaN if it has one.

    A reduction of numpy takes 2 us for any number of values; Python needs 1 us for both of 28 (2026-11-29), and sorting
    them half the instructions of min and max.
    """
    if array.size <= FEW:
        values = array.ravel().tolist()
        if math.isfinite(sum(values)):  # else one may be NaN, which has no place in an order
            values.sort()
            return values[0], values[-1]
    return np.minimum.reduce(array, axis=None), np.maximum.reduce(array, axis=None)


def widened(values: Array) -> Array:
    """The values in FP32 or FP64, for arithmetic: FP16 ends at 65,504, and differences of whole numbers wrap."""
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)


def float_of(values: Array) -> np.dtype[Any]:
    """The datatype of a result that stays floating, and is FP32 for whole numbers."""
    return values.dtype if values.dtype.kind == "f" else np.dtype(np.float32)


def cast_to_float(values: Array, dtype: np.dtype[Any], name: str) -> Array:
    """Cast to a float. Refuse a finite number that would become infinite."""
    if values.dtype.itemsize <= 1 or (dtype.itemsize >= 4 and values.dtype.itemsize <= dtype.itemsize):
        return values.astype(dtype, copy=False)
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    lost = np.isinf(cast) & np.isfinite(values)
    if lost.any():
        row = first_row(lost)
        want = f"values that fit {name_of(dtype)}"
        raise InvalidInput(name, want, f"row {row}: {first_value(values[row], lost[row])}")
    return cast


def refuse_nan(op: str, name: str, values: Array) -> None:
    """Raises ContractViolation for NaN, which is no score: its class would be made up."""
    if values.dtype.kind == "f" and (bad := np.isnan(values)).any():
        raise ContractViolation(f"{op}: '{name}' has NaN in row {first_row(bad)}")


def first_value(row: Any, bad: Any) -> Any:
    """The first bad value of a row, as a Python number."""
    return np.asarray(row)[np.asarray(bad)].flat[0].item()


def first_row(bad: Array) -> int:
    """Index of the first row with a True in it."""
    return int(bad.reshape(bad.shape[0], -1).any(axis=1).argmax())
