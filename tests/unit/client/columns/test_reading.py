"""Columns as tensors: each kind of column, and each value that a tensor cannot have."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from triptych.datatypes import TO_NUMPY
from triptych.protocol.metadata import TensorInfo
from triptych_client.columns.reading import BadValue, OtherShape, read_column
from triptych_client.columns.types import type_fault


def tensor(datatype: str, *dims: int) -> TensorInfo:
    return TensorInfo("x", datatype, (-1, *dims))


def read(column: Any, datatype: str, *dims: int, is_rounded: bool = False) -> Any:
    info = tensor(datatype, *dims)
    assert type_fault(info, column.type) == ""
    array = read_column(column, info, is_rounded=is_rounded)
    assert array.dtype == TO_NUMPY[datatype]
    return array.tolist()


PAIRS = [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64()),
        pa.list_(pa.int64(), 2),
        pa.large_list(pa.int64()),
        pa.list_view(pa.int64()),
        pa.large_list_view(pa.int64()),
        pa.list_(pa.dictionary(pa.int8(), pa.int64())),
    ],
    ids=str,
)
def test_each_kind_of_list_is_read_with_its_offset(kind: Any) -> None:
    column = pa.array(PAIRS, kind)
    assert read(column, "INT64", 2) == PAIRS
    assert read(column.slice(1), "INT64", 2) == PAIRS[1:]
    assert read(column.slice(1, 1), "INT64", -1) == PAIRS[1:2]
    assert read(column.slice(3), "INT64", 2) == []


def test_nested_lists_are_read_by_dimension() -> None:
    rows = [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[7.0, 8.0], [9.0, 10.0], [11.0, 12.0]]]
    column = pa.array(rows, pa.list_(pa.list_(pa.float32(), 2)))
    assert read(column, "FP32", 3, 2) == rows
    assert read(column.slice(1), "FP32", -1, 2) == rows[1:]


def test_tensors_of_arrow_are_read_in_their_shape() -> None:
    array = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(array)
    assert read(column, "FP32", 3, 2) == array.tolist()
    assert read(column.slice(1), "FP32", -1, 2) == array[1:].tolist()
    turned = pa.fixed_shape_tensor(pa.float32(), [2, 3], permutation=[1, 0])
    assert type_fault(tensor("FP32", 2, 3), turned)
    assert type_fault(tensor("FP32", 2, 2), column.type)


def test_numbers_of_the_datatype_are_not_copied() -> None:
    values = np.arange(12, dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values), 4)
    assert np.shares_memory(read_column(column.slice(1), tensor("FP32", 4)), values)


@pytest.mark.parametrize("dims", [(), (1,)])
def test_a_row_may_be_one_value(dims: tuple[int, ...]) -> None:
    assert np.ravel(read(pa.array([1, 2, 3]), "INT64", *dims)).tolist() == [1, 2, 3]


def test_one_value_may_stand_in_a_list() -> None:
    assert read(pa.array([[1], [2]]), "INT64", 1) == [[1], [2]]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(),
        pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.binary()),
    ],
    ids=str,
)  # fmt: skip
def test_bytes_are_read_of_each_kind_of_text(kind: Any) -> None:
    words = ["", "grün", "x" * 1000, "grün"]
    column = pa.array([word.encode() for word in words], pa.binary()).cast(pa.string())
    column = column.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else column.cast(kind)
    assert read(column, "BYTES") == [word.encode() for word in words]
    assert read(column.slice(1, 2), "BYTES") == [word.encode() for word in words[1:3]]


def test_types_of_others_are_read_as_they_are_stored() -> None:
    names = [bytes(16), b"x" * 16]
    assert read(pa.ExtensionArray.from_storage(pa.uuid(), pa.array(names, pa.binary(16))), "BYTES") == names
    assert read(pa.array(["{}", "[1]"], pa.json_()), "BYTES") == [b"{}", b"[1]"]


def test_bytes_of_one_size_and_lists_of_text_are_read() -> None:
    assert read(pa.array([b"ab", b"cd"], pa.binary(2)), "BYTES") == [b"ab", b"cd"]
    assert read(pa.array([["a", "b"], ["c", "d"]]), "BYTES", 2) == [[b"a", b"b"], [b"c", b"d"]]


@pytest.mark.parametrize(
    ("values", "kind", "datatype"),
    [
        ([0, 255], pa.int64(), "UINT8"),
        ([-(2**31), 2**31 - 1], pa.int64(), "INT32"),
        ([0, 2**63 - 1], pa.uint64(), "INT64"),
        ([1, 2**24], pa.int32(), "FP32"),
        ([2**53, 2**60], pa.int64(), "FP64"),
        ([0.5, -0.0, float("inf"), float("-inf")], pa.float64(), "FP16"),
        ([1.5, 65504.0], pa.float32(), "FP16"),
        ([1.5], pa.float16(), "FP64"),
    ],
)
def test_values_that_do_not_change_are_converted(values: Any, kind: Any, datatype: str) -> None:
    assert read(pa.array(values, kind), datatype) == values


def test_nan_is_a_value_of_every_floating_datatype() -> None:
    assert np.isnan(read(pa.array([float("nan")]), "FP32")).all()


@pytest.mark.parametrize(
    ("values", "kind", "datatype", "shown"),
    [
        ([1, 256], pa.int64(), "UINT8", "256"),
        ([1, -1], pa.int8(), "UINT64", "-1"),
        ([1, 2**63], pa.uint64(), "INT64", str(2**63)),
        ([1, 2**24 + 1], pa.int64(), "FP32", str(2**24 + 1)),
        ([1, 70_000], pa.int32(), "FP16", "70000"),
        ([0.5, 0.1], pa.float64(), "FP32", "0.1"),
        ([0.5, 1e39], pa.float64(), "FP32", "1e+39"),
        ([0.5, 65520.0], pa.float32(), "FP16", "65520.0"),
    ],
)
def test_a_value_that_would_change_is_named_with_its_row(values: Any, kind: Any, datatype: str, shown: str) -> None:
    with pytest.raises(BadValue, match=r"input 'x': want a value that") as caught:
        read(pa.array([values[0], *values], kind).slice(1), datatype)
    assert caught.value.row == 1
    assert f"got {shown} of " in str(caught.value)


def test_rounding_takes_the_nearest_number_and_no_infinity() -> None:
    assert read(pa.array([0.1, float("inf")]), "FP32", is_rounded=True) == [float(np.float32(0.1)), float("inf")]
    assert read(pa.array([2**24 + 1]), "FP32", is_rounded=True) == [2**24]
    for values, datatype in (([1e39], "FP32"), ([70_000], "FP16"), ([300], "UINT8")):
        with pytest.raises(BadValue):
            read(pa.array(values), datatype, is_rounded=True)


@pytest.mark.parametrize(
    ("column", "dims", "row", "got"),
    [
        (pa.array([1, None]), (), 1, "null"),
        (pa.array([[1, 2], None]), (2,), 1, "null"),
        (pa.array([[1, 2], [3, None]]), (2,), 1, "null"),
        (pa.array([[[1, 2]], [[3, None]]]), (1, 2), 1, "null"),
        (pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), (2,), 1, "null"),
        (pa.array([[1, 2], [3]]), (2,), 1, "one of 1"),
        (pa.array([[[1], [2]], [[3], [4, 5]]]), (2, 1), 1, "one of 2"),
        (pa.array([[[1], [2]], [[3], [4, 5]]]), (2, -1), 1, "lengths 1 and 2"),
        (pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array([5, None])), (), 1, "null"),
    ],
)
def test_a_row_that_is_no_row_of_the_tensor_is_named(column: Any, dims: tuple[int, ...], row: int, got: str) -> None:
    before = pa.concat_arrays([column.slice(0, 1), column])  # behind an offset, of the bits of nulls too
    with pytest.raises(BadValue, match=got) as caught:
        read(before.slice(1), "INT64", *dims)
    assert caught.value.row == row


def test_rows_of_another_size_in_an_open_dimension_are_named() -> None:
    with pytest.raises(OtherShape) as caught:
        read(pa.array([[1, 2], [3, 4], [5], [6]]), "INT64", -1)
    assert caught.value.row == 2
    assert read(pa.array([[], []], pa.list_(pa.int64())), "INT64", -1) == [[], []]


@pytest.mark.parametrize(
    ("column", "datatype"),
    [
        (pa.array([decimal.Decimal("1.5")]), "FP64"),
        (pa.array([datetime.date(2026, 11, 30)]), "INT32"),
        (pa.array([datetime.datetime(2026, 11, 30)]), "INT64"),
        (pa.array([datetime.timedelta(1)]), "INT64"),
        (pa.array([1.0]), "INT64"),
        (pa.array([True]), "INT8"),
        (pa.array([1]), "BOOL"),
        (pa.array(["1"]), "INT64"),
        (pa.array([1]), "BYTES"),
        (pa.array([None]), "FP32"),
        (pa.array([{"a": 1}]), "INT64"),
        (pa.array([[1]]), "INT64"),
        (pa.array([[(1, 2)]], pa.map_(pa.int64(), pa.int64())), "INT64"),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_a_column_of_another_kind_is_refused_by_its_type(column: Any, datatype: str) -> None:
    fault = type_fault(tensor(datatype), column.type)
    assert fault.startswith(f"want {datatype}[n] as ")
    assert fault.endswith(f"got {column.type}")


@pytest.mark.parametrize(
    ("kind", "dims"),
    [
        (pa.int64(), (2,)),
        (pa.list_(pa.int64()), (2, 2)),
        (pa.list_(pa.list_(pa.int64())), (2,)),
        (pa.list_(pa.int64(), 3), (2,)),
        (pa.list_(pa.list_(pa.int64(), 3)), (2, 2)),
    ],
)
def test_lists_of_another_depth_or_size_are_refused_by_their_type(kind: Any, dims: tuple[int, ...]) -> None:
    assert "lists of " in type_fault(tensor("INT64", *dims), kind)
