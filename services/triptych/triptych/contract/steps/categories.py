"""Steps from words and whole numbers of a closed list to columns or codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from triptych.contract.steps.base import Environment, Facts, MapStep, Scope, Step, first_row
from triptych.datatypes import TO_NUMPY, Array, Numeric
from triptych.errors import InvalidInput

TABLE_VALUES = 1024  # of one_hot, for which a table is made: it takes 4 MiB for so many, and 40 GB for 100,000

Integers = Annotated[tuple[int, ...], Field(strict=False, min_length=1)]
Words = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


def _kind(values: object) -> str:
    words = isinstance(values, (list, tuple)) and values and isinstance(values[0], str)
    return "(words)" if words else "(numbers)"


class _Categories(MapStep):
    """A step on the values of a closed list."""

    values: Annotated[Annotated[Integers, Tag("(numbers)")] | Annotated[Words, Tag("(words)")], Discriminator(_kind)]

    @model_validator(mode="after")
    def _values_differ(self) -> Self:
        if len(set(self.values)) != len(self.values):
            raise ValueError("values: each may be there once")
        return self

    def examples(self) -> dict[str, object]:
        first = self.values[0]
        return {self.input: first.encode() if isinstance(first, str) else first}

    def indices(self, refuse: bool) -> Callable[[Array], Array]:
        """Function from values to their places in the list; `len(values)` for one that is not there, or refused."""
        keys = [value.encode() if isinstance(value, str) else value for value in self.values]
        places, unknown, name = {key: place for place, key in enumerate(keys)}, len(keys), self.input
        want = f"one of {', '.join(map(str, self.values[:8]))}{', ...' if len(self.values) > 8 else ''}"

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
    unknown: Annotated[
        Literal["refuse", "zeros"], Field(description="what to do with a value that is not in the list")
    ] = "refuse"

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(width=len(self.values))}

    def made_bytes(self, env: Environment) -> int:
        return self.elements(env) * (8 + 4 * len(self.values))

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        rows_of, indices = _one_hot_rows(len(self.values)), self.indices(self.unknown == "refuse")
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
    """Words or whole numbers to their places in `values`, from 0, as scikit-learn's OrdinalEncoder has them."""

    op: Literal["ordinal"]
    unknown: Annotated[
        Literal["refuse"] | int, Field(description="the code of a value that is not in the list, or `refuse`")
    ] = "refuse"
    datatype: Numeric = "INT64"

    @model_validator(mode="after")
    def _codes_fit(self) -> Self:
        dtype = TO_NUMPY[self.datatype]
        codes = [len(self.values) - 1, *([] if self.unknown == "refuse" else [self.unknown])]
        if [int(code) for code in np.array(codes, np.int64).astype(dtype)] != codes:
            raise ValueError(f"datatype: {self.datatype} does not hold the codes up to {max(codes, key=abs)}")
        return self

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(width=facts.get(self.input, Facts()).width)}

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        last = [] if self.unknown == "refuse" else [self.unknown]
        codes = np.array([*range(len(self.values)), *last], np.int64).astype(TO_NUMPY[self.datatype])
        indices = self.indices(self.unknown == "refuse")
        return lambda values: codes[indices(values)]


def _first_object(row: Any, bad: Any) -> Any:
    """The first bad word or number of a row, as a Python value."""
    value = row[bad].tolist()[0] if isinstance(row, np.ndarray) else row
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value


STEPS: Final[tuple[type[Step], ...]] = (OneHot, Ordinal)
