"""Rows by the version that their traffic keys get online."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from triptych.datatypes import Array
from triptych_client.errors import InvalidColumns

KEYS_AT_ONCE: Final = 1_000  # of one call; the server takes 1,024 by default

VersionsOf = Callable[[Sequence[str]], Sequence[str]]  # of keys


class VersionRange(NamedTuple):
    """Consecutive rows of one version; rows without a key have none."""

    start: int
    end: int
    version: str | None


@dataclass(frozen=True)
class RowsByVersion:
    """A table with the rows of each version together. `rows` are their numbers in the table that was asked."""

    table: Any
    ranges: Sequence[VersionRange]
    rows: Array

    def in_order(self, answers: Any) -> Any:
        """A table of answers in the order of the table that was asked."""
        back = np.empty(len(self.rows), np.int64)
        back[self.rows] = np.arange(len(self.rows))
        return answers.take(pa.array(back))


class TrafficKeys:
    """The column of the keys: texts or whole numbers."""

    def __init__(self, column: str, versions_of: VersionsOf) -> None:
        self._column, self._versions_of = column, versions_of

    def check(self, schema: Any) -> None:
        """Raises `InvalidColumns` for a column that is not there, or holds something else than keys."""
        if self._column not in schema.names:
            raise InvalidColumns([f"column '{self._column}' of `traffic_key` is not there"])
        kind = schema.field(self._column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise InvalidColumns([f"column '{self._column}' of `traffic_key`: want texts or whole numbers, got {kind}"])

    def sort(self, table: Any) -> RowsByVersion:
        """The rows of a table by version. Raises `RequestFailed`."""
        keys = pc.fill_null(table.column(self._column).cast(pa.string()), "").combine_chunks().dictionary_encode()
        versions = self._versions_by_key([key for key in keys.dictionary.to_pylist() if key])
        numbered = {version: number for number, version in enumerate(dict.fromkeys(versions.values()))}
        of_key = [numbered[versions[key]] if key else -1 for key in keys.dictionary.to_pylist()]
        of_row = np.array(of_key, np.int64)[keys.indices.to_numpy()] if of_key else np.empty(0, np.int64)
        rows = np.argsort(of_row, kind="stable")
        starts = np.flatnonzero(np.diff(of_row[rows], prepend=-2)).tolist()
        names = [None, *numbered]
        ranges = [
            VersionRange(start, end, names[of_row[rows[start]] + 1]) for start, end in pairwise([*starts, len(rows)])
        ]
        return RowsByVersion(table.take(pa.array(rows)), ranges, rows)

    def _versions_by_key(self, keys: Sequence[str]) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            found.update(zip(some, self._versions_of(some), strict=True))
        return found
