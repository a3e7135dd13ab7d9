"""Columns as tensors. Numbers stay where they are; a value is converted only if that does not change it."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from triptych.datatypes import TO_NUMPY, Array, name_of
from triptych.errors import InvalidInput
from triptych.protocol.metadata import TensorInfo
from triptych_client.columns.types import is_list, text_of

# Whole numbers up to this size are exact in a floating datatype.
_EXACT: Final = {2: 2**11, 4: 2**24, 8: 2**53}


class BadValue(Exception):
    """A value that the input cannot have. `row` counts from 0 in the column that was read."""

    def __init__(self, row: int, text: str) -> None:
        super().__init__(text)
        self.row = row


class OtherShape(Exception):
    """`row` has other sizes in an open dimension than the rows before it: they are no tensor together."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} has another shape")
        self.row = row


def read_column(column: Any, tensor: TensorInfo, *, is_rounded: bool = False) -> Array:
    """The tensor of a column whose type has no fault. Zero-copy if the datatype is equal, but for BOOL and BYTES.

    With `is_rounded` a number of a floating datatype may lose digits. Raises `BadValue` or `OtherShape`.
    """
    return _ColumnReader(tensor, is_rounded).read(column)


class _ColumnReader:
    """Reads one tensor level by level: rows, lists of each dimension, elements."""

    def __init__(self, tensor: TensorInfo, is_rounded: bool) -> None:
        self._tensor, self._is_rounded = tensor, is_rounded
        self._sizes: list[int] = []
        self._per_row = 1  # elements of the level for each row

    def read(self, column: Any) -> Array:
        array = column.storage if isinstance(column, pa.ExtensionArray) else column
        rows, dims = len(array), self._tensor.shape[1:]
        if isinstance(column, pa.FixedShapeTensorArray):
            self._refuse_nulls(array)
            self._sizes, self._per_row = list(column.type.shape), math.prod(column.type.shape)
            array = array.flatten()
        elif is_list(array.type):
            for dim in dims:
                self._refuse_nulls(array)
                if kinds.is_fixed_size_list(array.type) and rows:
                    self._sizes.append(array.type.list_size)
                    self._per_row *= array.type.list_size
                else:
                    self._add_size(_lengths(array), dim, rows)
                array = array.flatten()
        else:
            self._sizes = [1] * len(dims)
        if kinds.is_dictionary(array.type):
            array = array.dictionary_decode()
        self._refuse_nulls(array)
        return self._elements(array).reshape(rows, *self._sizes)

    def _add_size(self, lengths: Array, dim: int, rows: int) -> None:
        """Take the size of one dimension from the lengths of all its lists."""
        if not len(lengths):
            self._sizes.append(max(dim, 0))
        elif dim != -1:
            if (wrong := lengths != dim).any():
                at = int(wrong.argmax())
                raise self._bad(at, f"a list of {dim}", f"one of {lengths[at]}")
            self._sizes.append(dim)
        else:
            by_row = lengths.reshape(rows, self._per_row)
            if (ragged := by_row != by_row[:, :1]).any():
                at = int(ragged.ravel().argmax())
                first = by_row[at // self._per_row, 0]
                raise self._bad(at, "lists of one length in a row", f"lengths {first} and {lengths[at]}")
            if (other := by_row[:, 0] != by_row[0, 0]).any():
                raise OtherShape(int(other.argmax()))
            self._sizes.append(int(by_row[0, 0]))
        self._per_row *= self._sizes[-1]

    def _refuse_nulls(self, array: Any) -> None:
        if array.null_count:
            raise self._bad(int(np.argmax(array.is_null().to_numpy(zero_copy_only=False))), "a value", "null")

    def _elements(self, array: Any) -> Array:
        if self._tensor.datatype == "BYTES":
            return _bytes(array)
        values: Array = array.to_numpy(zero_copy_only=False)
        dtype = TO_NUMPY[self._tensor.datatype]
        if values.dtype == dtype or not values.size:
            return values.astype(dtype, copy=False)
        with np.errstate(all="ignore"):
            taken = values.astype(dtype)
        if (changed := _changed(values, taken, self._is_rounded)) is not None:
            want = f"a value that {self._tensor.datatype} has"
            may_be_rounded = values.dtype.kind == "f" and np.isfinite(taken[changed])
            hint = "; `allow_rounding` takes the nearest one" if may_be_rounded else ""
            raise self._bad(changed, want, f"{values[changed]} of {name_of(values.dtype)}{hint}")
        return taken

    def _bad(self, at: int, want: str, got: str) -> BadValue:
        """The error about the element at a place of the level."""
        row = at // max(self._per_row, 1)
        return BadValue(row, str(InvalidInput(self._tensor.name, f"{want} in {text_of(self._tensor)}", got)))


def _lengths(array: Any) -> Array:
    lengths: Array = pc.list_value_length(array).to_numpy(zero_copy_only=False)
    return lengths


def _bytes(array: Any) -> Array:
    if not kinds.is_binary(array.type):
        array = array.cast(pa.large_binary())
    elements = np.empty(len(array), np.object_)
    elements[:] = array.to_pylist()
    return elements


def _changed(values: Array, taken: Array, is_rounded: bool) -> int | None:
    """Position of the first value that the conversion has changed; None if there is none."""
    if taken.dtype.kind != "f":
        info = np.iinfo(taken.dtype)
        low, high = max(info.min, np.iinfo(values.dtype).min), min(info.max, np.iinfo(values.dtype).max)
        changed = (values < low) | (values > high)
    elif values.dtype.kind == "f":
        if is_rounded:
            changed = np.isinf(taken) & ~np.isinf(values)
        else:
            changed = (taken.astype(values.dtype) != values) & ~np.isnan(values)
    else:
        exact = _EXACT[taken.dtype.itemsize]
        changed = (values > exact) | (values < (-exact if values.dtype.kind == "i" else 0))
        for at in np.flatnonzero(changed):  # a large one may be exact all the same
            is_exact = bool(np.isfinite(taken[at])) and int(taken[at]) == int(values[at])
            changed[at] = not is_exact and not (is_rounded and np.isfinite(taken[at]))
    return int(changed.argmax()) if changed.any() else None
