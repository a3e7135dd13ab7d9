"""Steps from words and whole numbers of a closed list to columns or codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from triptych.contract.steps.base import Environment, Facts, MapStep, Scope, Step, first_row
from triptych.contract.steps.step_file import FilePath, words_of
from triptych.datatypes import TO_NUMPY, Array, Numeric
from triptych.errors import ContractViolation, InvalidInput

TABLE_VALUES = 1024  # of one_hot, for which a table is made: it takes 4 MiB for so many, and 40 GB for 100,000

Integers = Annotated[tuple[int, ...], Field(strict=False, min_length=1)]
Words = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


def _kind(values: object) -> str:
    words = isinstance(values, (list, tuple)) and values and isinstance(values[0], str)
    return "(words)" if words else "(numbers)"


Values = Annotated[Annotated[Integers, Tag("(numbers)")] | Annotated[Words, Tag("(words)")], Discriminator(_kind)]


class _Categories(MapStep):
    """A step on the values of a closed list."""

    values: Values | None = None

    @model_validator(mode="after")
    def _values_differ(self) -> Self:
        if self.values is not None and len(set(self.values)) != len(self.values):
            raise ValueError("values: each may be there once")
        return self

    def examples(self) -> dict[str, object]:
        if self.values is None:
            return {}
        first = self.values[0]
        return {self.input: first.encode() if isinstance(first, str) else first}

    def indices(self, listed: Sequence[int | str], refuse: bool) -> Callable[[Array], Array]:
        """Function from values to their places in the list; its length for one that is not there, or refused."""
        keys = [value.encode() if isinstance(value, str) else value for value in listed]
        places, unknown, name = {key: place for place, key in enumerate(keys)}, len(keys), self.input
        want = f"one of {', '.join(map(str, listed[:8]))}{', ...' if len(listed) > 8 else ''}"

        def indices(values: Array) -> Array:
            # Words are few per row, so a dict beats sorting them; tolist() makes numbers hashable alike.
            found = np.array([places.get(value, unknown) for value in values.ravel().tolist()], np.intp)
            found = found.reshape(values.shape)
            if refuse and (found == unknown).any():
                row = first_row(found == unknown)
                value = _first_object(values[row], found[row] == unknown)
                raise InvalidInput(name, want, f"row {row}: {value!r:.80}")
            return found

        return indices


class OneHot(_Categories):
    """Words or whole numbers to FP32 columns of 0 and 1, one for each of `values`; adds a last dimension."""

    op: Literal["one_hot"]
    values: Values
    unknown: Annotated[
        Literal["refuse", "zeros"], Field(description="what to do with a value that is not in the list")
    ] = "refuse"

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(width=len(self.values))}

    def made_bytes(self, env: Environment) -> int:
        return self.elements(env) * (8 + 4 * len(self.values))

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        rows_of, indices = _one_hot_rows(len(self.values)), self.indices(self.values, self.unknown == "refuse")
        return lambda values: rows_of(indices(values))


def _one_hot_rows(count: int) -> Callable[[Array], Array]:
    """Function from column indices to rows of 0 and 1; index `count` gives zeros. A small table is faster."""
    if count <= TABLE_VALUES:
        table = np.vstack([np.eye(count, dtype=np.float32), np.zeros((1, count), np.float32)])
        return lambda indices: table[indices]

    def rows(indices: Array) -> Array:
        out = np.zeros((*indices.shape, count), np.float32)
        known = np.nonzero(indices < count)
        out[(*known, indices[known])] = 1
        return out

    return rows


class Ordinal(_Categories):
    """Words or whole numbers to their places in `values`, from 0, as scikit-learn's OrdinalEncoder has them.

    `file` is a vocabulary in UTF-8 beside the contract, one word a line, in place of `values`.
    """

    FILES = ("file",)

    op: Literal["ordinal"]
    file: FilePath | None = None
    unknown: Annotated[
        Literal["refuse"] | int, Field(description="the code of a value that is not in the list, or `refuse`")
    ] = "refuse"
    datatype: Numeric = "INT64"

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if (self.values is None) == (self.file is None):
            raise ValueError("give values or file")
        if self.values is not None and (fault := self._codes_fault(len(self.values))):
            raise ValueError(fault)
        return self

    def _codes_fault(self, count: int) -> str:
        """The fault of a datatype that does not hold all codes; '' if it does."""
        codes = [count - 1, *([] if self.unknown == "refuse" else [self.unknown])]
        if [int(code) for code in np.array(codes, np.int64).astype(TO_NUMPY[self.datatype])] == codes:
            return ""
        return f"datatype: {self.datatype} does not hold the codes up to {max(codes, key=abs)}"

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(width=facts.get(self.input, Facts()).width)}

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        listed = self.values if self.file is None else words_of(self.file, scope.file(self.file))
        assert listed is not None
        if fault := self._listed_fault(listed):
            raise ContractViolation(f"{self.file}: {fault}")
        last = [] if self.unknown == "refuse" else [self.unknown]
        codes = np.array([*range(len(listed)), *last], np.int64).astype(TO_NUMPY[self.datatype])
        indices = self.indices(listed, self.unknown == "refuse")
        return lambda values: codes[indices(values)]

    def _listed_fault(self, listed: Sequence[int | str]) -> str:
        if len(set(listed)) != len(listed):
            twice = Counter(listed).most_common(1)[0][0]
            return f"holds {twice!r:.80} twice"
        return self._codes_fault(len(listed))


def _first_object(row: Any, bad: Any) -> Any:
    """The first bad word or number of a row, as a Python value."""
    value = row[bad].tolist()[0] if isinstance(row, np.ndarray) else row
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value


STEPS: Final[tuple[type[Step], ...]] = (OneHot, Ordinal)
