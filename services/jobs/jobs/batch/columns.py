"""Columns that are one input together: each row of the input is a list with one value of each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.batch.errors import BatchError


class GatheredColumns:
    """Gathers columns, as CSV has them, into inputs. `groups` has the columns of each such input; `keep` stay, too."""

    def __init__(self, groups: Mapping[str, Sequence[str]], keep: Sequence[str]) -> None:
        self._groups = groups
        self._gathered = {column for columns in groups.values() for column in columns} - set(keep)

    def schema(self, schema: Any) -> Any:
        """The schema of gathered columns. Raises `BatchError` for columns that are missing or differ in type."""
        fields = [field for field in schema if field.name not in self._gathered]
        for name, columns in self._groups.items():
            if missing := [column for column in columns if column not in schema.names]:
                raise BatchError(f"columns.{name}: the dataset has no column {', '.join(missing)}")
            types = {column: schema.field(column).type for column in columns}
            first = types[columns[0]]
            for column, kind in types.items():
                if kind != first:
                    raise BatchError(f"columns.{name}: column '{column}' is {kind}, '{columns[0]}' is {first}")
            fields.append(pa.field(name, pa.list_(first, len(columns))))
        return pa.schema(fields)

    def batch(self, batch: Any) -> Any:
        """The rows with gathered columns."""
        if not self._groups:
            return batch
        columns = {name: batch.column(name) for name in batch.schema.names if name not in self._gathered}
        for name, parts in self._groups.items():
            order = np.arange(batch.num_rows * len(parts)).reshape(len(parts), batch.num_rows).T.reshape(-1)
            values = pa.concat_arrays([batch.column(part) for part in parts]).take(pa.array(order))
            columns[name] = pa.FixedSizeListArray.from_arrays(values, len(parts))
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
