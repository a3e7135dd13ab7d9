"""The input columns of a model: one check of the schema before the first row, then tensors of any rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from triptych.datatypes import TO_NUMPY, Array
from triptych.protocol.metadata import TensorInfo
from triptych_client.columns.reading import read_column
from triptych_client.columns.types import text_of, type_fault
from triptych_client.errors import InvalidColumns

# Types whose rows share buffers: `nbytes` of some rows is that of all.
_SHARING = (pa.types.is_dictionary, pa.types.is_string_view, pa.types.is_binary_view)


class InputColumns:
    """The inputs of a model by the names of their columns."""

    def __init__(
        self,
        inputs: Sequence[TensorInfo],
        columns: Mapping[str, str],
        *,
        keep: Collection[str] = (),
        others: Collection[str] = (),
        has_others: bool = False,
        allow_rounding: bool = False,
    ) -> None:
        """`columns` maps inputs to columns of another name. `keep` are to be there too, `others` may be, or any."""
        self._columns = {tensor.name: columns.get(tensor.name, tensor.name) for tensor in inputs}
        self._inputs = {tensor.name: tensor for tensor in inputs}
        self._unknown = sorted(columns.keys() - self._inputs.keys())
        self._keep, self._others, self._has_others, self._allow_rounding = keep, others, has_others, allow_rounding

    def check(self, schema: Any) -> None:
        """Raises `InvalidColumns` with all faults of a schema."""
        if faults := list(self._faults(schema)):
            raise InvalidColumns(faults)

    def _faults(self, schema: Any) -> Iterator[str]:
        names = list(schema.names)
        for name in self._unknown:
            yield f"'{name}' of `columns` is no input of the model; there are: {', '.join(self._inputs)}"
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"column '{name}' is there {names.count(name)} times"
        for name, tensor in self._inputs.items():
            column = self._columns[name]
            if column not in names:
                if not tensor.optional:
                    yield f"{self._spelled(name)}: want {text_of(tensor)}, got no such column"
            elif fault := type_fault(tensor, schema.field(names.index(column)).type):
                yield f"{self._spelled(name)}: {fault}"
        if not set(names) & set(self._columns.values()):
            yield f"want a column for one of the inputs {', '.join(self._inputs)}, got none"
        yield from (f"column '{name}' of `keep` is not there" for name in self._keep if name not in names)
        known = {*self._columns.values(), *self._keep, *self._others}
        if not self._has_others:
            hint = "name it in `keep`, or ask with `ignore_others=True`"
            yield from (f"column '{name}' is no input; {hint}" for name in names if name not in known)

    def _spelled(self, name: str) -> str:
        column = self._columns[name]
        return f"input '{name}'" + (f" (column '{column}')" if column != name else "")

    def row_bytes(self) -> int | None:
        """Bytes of each row of the tensors; None if rows may differ."""
        if any(-1 in tensor.shape[1:] or tensor.datatype == "BYTES" for tensor in self._inputs.values()):
            return None
        return sum(math.prod(tensor.shape[1:]) * TO_NUMPY[tensor.datatype].itemsize for tensor in self._inputs.values())

    def tensors(self, table: Any) -> dict[str, Array]:
        """The tensors of all rows of a table whose schema passed `check`. Raises `BadValue` or `OtherShape`."""
        arrays: dict[str, Array] = {}
        for name, tensor in self._inputs.items():
            if self._columns[name] in table.column_names:
                column = _whole(table.column(self._columns[name]))
                arrays[name] = read_column(column, tensor, is_rounded=self._allow_rounding)
        return arrays

    def size_bytes(self, table: Any) -> int:
        """Bytes of the inputs of a table, as far as they are known before they are read."""
        columns = (table.column(name) for name in self._columns.values() if name in table.column_names)
        return sum(column.nbytes for column in columns if not any(test(column.type) for test in _SHARING))


def tensor_bytes(tensors: Mapping[str, Array]) -> int:
    """Bytes of tensors in a request."""
    return sum(
        sum(map(len, array.flat)) + 4 * array.size if array.dtype.hasobject else array.nbytes
        for array in tensors.values()
    )


def _whole(column: Any) -> Any:
    """A chunked column as one array; without a copy if it has one chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
