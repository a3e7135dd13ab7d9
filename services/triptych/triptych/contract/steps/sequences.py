"""Steps on outputs [n,places,...]: one vector or one text for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from triptych.contract.specs import Name
from triptych.contract.steps.base import (
    ElementwiseStep,
    Environment,
    Facts,
    MapStep,
    Run,
    Scope,
    Step,
    cast_to_float,
    first_row,
    float_of,
    refuse_nan,
    widened,
)
from triptych.contract.steps.step_file import FilePath, words_of
from triptych.datatypes import TO_NUMPY, Array, describe_array
from triptych.errors import ContractViolation, InvalidInput

EPSILON: Final = 1e-12  # torch.nn.functional.normalize
EMPTY: Final = 1e-9  # least divisor of a mean, as in sentence-transformers


class L2Normalize(ElementwiseStep):
    """Divides by the Euclidean norm along the last dimension, so that it is 1; a vector of zeros stays.

    Floating datatypes stay as they are, integers become FP32.
    """

    op: Literal["l2_normalize"]

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        def normalize(values: Array) -> Array:
            wide = widened(values)
            norm = np.sqrt(np.sum(np.square(wide), axis=-1, keepdims=True))
            return cast_to_float(wide / np.maximum(norm, EPSILON), float_of(values), self.input)

        return normalize


class MeanPool(MapStep):
    """The mean over the places of `input` [n,t,d] that `mask` [n,t] marks with a number other than 0, FP32 [n,d].

    A row without such a place gives zeros. Without `mask` all places count.
    """

    READS_IF_PRESENT = ("mask",)

    op: Literal["mean_pool"]
    mask: Name | None = None

    def reads(self) -> Iterator[tuple[str, str, bool]]:
        yield "input", self.input, True
        if self.mask is not None:
            yield "mask", self.mask, True

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(width=facts.get(self.input, Facts()).width)}

    def compile(self, scope: Scope) -> Run:
        source, target, mask = self.input, self.result, self.mask

        def run(env: Environment) -> None:
            values = env[source]
            counts = np.ones(values.shape[:2], bool) if mask is None else env[mask] != 0
            if values.ndim != 3 or counts.shape != values.shape[:2]:
                got = f"{describe_array(values)} and {describe_array(counts)}"
                raise ContractViolation(f"mean_pool: want [n,t,d] and a mask [n,t], got {got}")
            summed = np.einsum("ntd,nt->nd", values.astype(np.float32, copy=False), counts.astype(np.float32))
            env[target] = summed / np.maximum(counts.sum(axis=1, keepdims=True), EMPTY).astype(np.float32)

        return run


class SequenceMask(Step):
    """1 in the first `input` [n] places of each row and 0 in the rest, [n,t] for the places of `like` [n,t,...].

    So a model that wants a mask gets it for the `lengths` of `decode_wav`. A length below 0 or above t is refused.
    """

    READS = ("input", "like")

    op: Literal["sequence_mask"]
    input: Annotated[Name, Field(description="the lengths, whole numbers")]
    like: Annotated[Name, Field(description="the value that is masked")]
    output: Name
    datatype: Literal["BOOL", "UINT8", "INT32", "INT64", "FP32"] = "INT64"

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.output: Facts()}

    def compile(self, scope: Scope) -> Run:
        source, like, target, dtype = self.input, self.like, self.output, TO_NUMPY[self.datatype]

        def run(env: Environment) -> None:
            lengths, values = env[source], env[like]
            if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or values.ndim < 2:
                got = f"{describe_array(lengths)} and {describe_array(values)}"
                raise ContractViolation(f"sequence_mask: want whole numbers [n] and [n,t,...], got {got}")
            places = values.shape[1]
            wrong = (lengths < 0) | (lengths > places)
            if wrong.any():
                row = first_row(wrong)
                raise InvalidInput(source, f"lengths from 0 to {places}", f"row {row}: {lengths[row]}")
            env[target] = (np.arange(places) < lengths[:, np.newaxis]).astype(dtype)

        return run


class CtcDecode(MapStep):
    """Scores [n,t,c] of a CTC model to texts (BYTES, UTF-8), by the best symbol of each place.

    A symbol that repeats counts once, then blanks are removed. `labels` names a table with a symbol for each of the c
    scores, that of the blank included. Or `file` is a vocabulary beside the contract that lists all but the blank, one
    a line. `score` is the mean of the best values of the symbols that stay, 0 for an empty text. NaN is refused.
    """

    WRITES = ("output", "score")
    FILES = ("file",)

    op: Literal["ctc_decode"]
    labels: Name | None = None
    file: FilePath | None = None
    blank: Annotated[int, Field(ge=0)] = 0
    score: Annotated[Name | None, Field(description="FP32 [n]")] = None

    @model_validator(mode="after")
    def _one_table(self) -> Self:
        if (self.labels is None) == (self.file is None):
            raise ValueError("give labels or file")
        return self

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        if self.score == self.result:
            yield "score", f"'{self.score}' is already the name of the texts"
        if self.labels is None:
            return
        table = scope.labels.get(self.labels)
        width = facts.get(self.input, Facts()).width
        if table is None:
            yield "labels", f"no label table '{self.labels}'; known: {', '.join(sorted(scope.labels)) or 'none'}"
        elif width is not None and len(table) != width:
            yield "labels", f"table '{self.labels}' has {len(table)} labels for {width} classes"
        elif self.blank >= len(table):
            yield "blank", f"{self.blank} is outside of 0..{len(table) - 1}"

    def compile(self, scope: Scope) -> Run:
        source, target, score, blank = self.input, self.result, self.score, self.blank
        symbols = [label.encode() for label in self._symbols(scope)]

        def run(env: Environment) -> None:
            values = env[source]
            if values.ndim != 3 or values.shape[2] != len(symbols):
                raise ContractViolation(f"ctc_decode: want [n,t,{len(symbols)}], got {describe_array(values)}")
            best = values.argmax(axis=2)
            refuse_nan(self.op, source, np.take_along_axis(values, best[..., np.newaxis], axis=2))
            kept = best != blank
            kept[:, 1:] &= best[:, 1:] != best[:, :-1]
            texts = np.empty(len(best), np.object_)
            texts[:] = [b"".join([symbols[each] for each in row[keep]]) for row, keep in zip(best, kept, strict=True)]
            env[target] = texts
            if score is not None:
                top = np.where(kept, values.max(axis=2), 0).astype(np.float32)
                env[score] = top.sum(axis=1) / np.maximum(kept.sum(axis=1), 1).astype(np.float32)

        return run

    def _symbols(self, scope: Scope) -> Sequence[str]:
        """A symbol for each score; that of the blank is never read."""
        if self.file is None:
            return scope.labels[self.labels or ""]
        words = list(words_of(self.file, scope.file(self.file)))
        if self.blank > len(words):
            raise ContractViolation(f"{self.file}: blank: {self.blank} is outside of 0..{len(words)}")
        words.insert(self.blank, "")
        return words


STEPS: Final[tuple[type[Step], ...]] = (L2Normalize, MeanPool, SequenceMask, CtcDecode)
