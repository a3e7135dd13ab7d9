"""Tensors as columns and back are the same tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from triptych.datatypes import DATATYPES, TO_NUMPY
from triptych.protocol.metadata import TensorInfo
from triptych_client.columns.reading import read_column
from triptych_client.columns.types import column_type, type_fault
from triptych_client.columns.writing import write_column


@st.composite
def tensors(draw: st.DrawFn) -> tuple[TensorInfo, Any]:
    """A tensor, and its declaration with some open dimensions. Without rows a column does not know their sizes."""
    datatype = draw(st.sampled_from(DATATYPES))
    shape = draw(arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4).filter(_is_known))
    if datatype == "BYTES":
        array = np.empty(int(np.prod(shape)), np.object_)
        array[:] = draw(st.lists(st.binary(max_size=9), min_size=array.size, max_size=array.size))
        array = array.reshape(shape)
    else:
        array = draw(arrays.arrays(TO_NUMPY[datatype], shape))
    dims = [draw(st.sampled_from([size, -1])) if size else -1 for size in shape[1:]]
    return TensorInfo("x", datatype, (-1, *dims)), array


def _is_known(shape: tuple[int, ...]) -> bool:
    """Whether lists of these sizes tell them: behind a size of 0 there is nothing."""
    return not any(size and not all(shape[:at]) for at, size in enumerate(shape))


@settings(deadline=None)
@given(tensors(), st.integers(0, 3))
def test_a_tensor_comes_back_from_its_column(case: tuple[TensorInfo, Any], start: int) -> None:
    info, array = case
    column = write_column(array, info)
    assert column.type == column_type(info)
    assert type_fault(info, column.type) == ""
    for rows in (slice(None), slice(start, None)):
        again = read_column(column[rows], info)
        assert again.dtype == array.dtype
        expected = array[rows]
        if len(expected):
            assert again.shape == expected.shape
            np.testing.assert_array_equal(again, expected)
        else:
            assert len(again) == 0


def test_texts_are_strings_if_that_is_wanted() -> None:
    info = TensorInfo("x", "BYTES", (-1, 2))
    array = np.array([[b"a", "ü".encode()]], object)
    assert write_column(array, info, is_text=True).to_pylist() == [["a", "ü"]]
    assert write_column(array, info, is_text=True).type == pa.list_(pa.string())
    with pytest.raises(UnicodeDecodeError):
        write_column(np.array([[b"\xff", b""]], object), info, is_text=True)


def test_numbers_of_an_answer_are_not_copied() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    column = write_column(array, TensorInfo("x", "FP32", (-1, 3)))
    assert np.shares_memory(column.values.to_numpy(), array)


def test_rows_in_another_order_in_memory_are_written_as_rows() -> None:
    array = np.arange(6, dtype=np.int64).reshape(3, 2).T
    assert write_column(array, TensorInfo("x", "INT64", (-1, 3))).to_pylist() == [[0, 2, 4], [1, 3, 5]]
