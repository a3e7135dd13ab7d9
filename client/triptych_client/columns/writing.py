"""Tensors as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from triptych.datatypes import Array
from triptych.protocol.metadata import TensorInfo
from triptych_client.columns.types import ELEMENTS, column_type, is_scalar


def write_column(array: Array, tensor: TensorInfo, *, is_text: bool = False) -> Any:
    """The column of a tensor, of the type `column_type`. Numbers are not copied.

    Raises `UnicodeDecodeError` for a text that is not UTF-8.
    """
    kind = column_type(tensor, is_text=is_text)
    flat = np.ascontiguousarray(array).reshape(-1)
    if tensor.datatype != "BYTES":
        column = pa.array(flat, ELEMENTS[tensor.datatype])
    elif is_text:
        column = pa.array([element.decode() for element in flat], pa.string())
    else:
        column = pa.array(flat.tolist(), pa.binary())
    if is_scalar(tensor):
        return column
    count = array.size
    for axis in range(array.ndim - 1, 0, -1):
        size = array.shape[axis]
        count = int(np.prod(array.shape[:axis]))
        offsets = np.arange(count + 1, dtype=np.int32) * np.int32(size)
        column = pa.ListArray.from_arrays(pa.array(offsets), column)
    return column.cast(kind) if column.type != kind else column
