"""Columns of numbers and words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from triptych.contract.steps.registry import parse_step
from triptych.errors import ContractViolation, InvalidInput

F = np.float32
OPTIONAL = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2], "required": False}], "rows": 3}


def test_require_fills_in_the_default_for_every_row(apply: Any) -> None:
    out = apply({"op": "require", "input": "x", "default": 1.5}, OPTIONAL)["x"]
    assert out.dtype == np.float32
    assert out.tolist() == [[1.5, 1.5]] * 3


def test_require_takes_one_default_for_each_element(apply: Any) -> None:
    assert apply({"op": "require", "input": "x", "default": [1, 2]}, OPTIONAL)["x"].tolist() == [[1, 2]] * 3


def test_require_leaves_what_was_sent(apply: Any) -> None:
    sent = np.zeros((3, 2), F)
    assert apply({"op": "require", "input": "x", "default": 1}, OPTIONAL, x=sent)["x"] is sent


def test_require_without_a_default_refuses(apply: Any) -> None:
    with pytest.raises(InvalidInput, match=r"input 'x': want FP32\[n,2\], got nothing"):
        apply({"op": "require", "input": "x"}, OPTIONAL)


def test_require_fills_in_words(apply: Any) -> None:
    scope = {"inputs": [{"name": "w", "datatype": "BYTES", "shape": [-1], "required": False}], "rows": 2}
    assert apply({"op": "require", "input": "w", "default": "öl"}, scope)["w"].tolist() == ["öl".encode()] * 2


@pytest.mark.parametrize(("datatype", "default"), [("FP16", 100_000), ("FP32", 1e39), ("FP16", [0, -70_000.0])])
def test_a_default_that_would_become_infinite_is_refused(apply: Any, datatype: str, default: Any) -> None:
    scope = {"inputs": [{**OPTIONAL["inputs"][0], "datatype": datatype}], "rows": 3}  # type: ignore[index]
    with pytest.raises(ValueError, match=f" is beyond {datatype}"):
        apply({"op": "require", "input": "x", "default": default}, scope)


def test_cast_turns_bool_into_0_and_1(apply: Any) -> None:
    out = apply({"op": "cast", "input": "x", "datatype": "FP32"}, x=np.array([[True, False]]))["x"]
    assert out.dtype == np.float32
    assert out.tolist() == [[1.0, 0.0]]


def test_cast_cuts_fractions_off(apply: Any) -> None:
    out = apply({"op": "cast", "input": "x", "datatype": "INT64"}, x=np.array([[1.9, -1.9]], F))["x"]
    assert out.tolist() == [[1, -1]]


@pytest.mark.parametrize(
    ("value", "datatype", "shown"),
    [
        (np.nan, "INT64", "nan"),
        (np.inf, "INT64", "inf"),
        (2.0**63, "INT64", "9.22"),
        (-1.0, "UINT8", "-1.0"),
        (256.0, "UINT8", "256.0"),
        (np.float64(2**31), "INT32", "2147483648.0"),
        (np.int64(300), "INT8", "300"),
        (np.int64(-1), "UINT64", "-1"),
        (np.float64(1e39), "FP32", "1e\\+39"),
        (np.float64(-1e300), "FP16", "-1e\\+300"),
        (np.float32(65_520), "FP16", "65520.0"),
        (np.int64(70_000), "FP16", "70000"),
    ],
)
def test_cast_refuses_what_does_not_fit(apply: Any, value: Any, datatype: str, shown: str) -> None:
    values = np.array([[0], [value]])
    with pytest.raises(InvalidInput, match=f"values that fit {datatype}, got row 1: {shown}"):
        apply({"op": "cast", "input": "x", "datatype": datatype}, x=values)


@pytest.mark.parametrize(
    ("value", "datatype"), [(-(2.0**63), "INT64"), (255.9, "UINT8"), (-0.9, "UINT8"), (np.int64(127), "INT8")]
)
def test_cast_accepts_the_last_value_that_fits(apply: Any, value: Any, datatype: str) -> None:
    assert apply({"op": "cast", "input": "x", "datatype": datatype}, x=np.array([value]))["x"][0] == int(value)


@pytest.mark.parametrize("value", [np.float64(np.inf), np.float64(-np.inf), np.float64(3.4e38), np.int64(2**63 - 1)])
def test_cast_to_a_float_keeps_what_is_infinite_and_takes_what_fits(apply: Any, value: Any) -> None:
    out = apply({"op": "cast", "input": "x", "datatype": "FP32"}, x=np.array([value]))["x"]
    assert out.tolist() == [float(np.float32(value))]


@pytest.mark.parametrize("bad", [-0.1, 10.0, np.nan, np.inf])
def test_range_refuses_and_names_row_and_value(apply: Any, bad: float) -> None:
    step = {"op": "range", "input": "x", "minimum": 0, "exclusive_maximum": 10}
    with pytest.raises(InvalidInput, match=r"input 'x': want values >= 0 and < 10, got row 1: "):
        apply(step, x=np.array([[0.0, 9.9], [1.0, bad]], F))


def test_range_changes_nothing(apply: Any) -> None:
    values = np.array([1, 2])
    assert apply({"op": "range", "input": "x", "minimum": 1, "maximum": 2}, x=values)["x"] is values


@pytest.mark.parametrize(
    "limits",
    [{}, {"minimum": 2, "maximum": 1}, {"minimum": 1, "exclusive_maximum": 1},
     {"minimum": 1, "exclusive_minimum": 1}],
)  # fmt: skip
def test_a_range_that_contains_nothing_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        parse_step({"op": "range", "input": "x", **limits})


def test_concatenate_puts_columns_side_by_side_in_order(apply: Any) -> None:
    step = {"op": "concatenate", "inputs": ["a", "b", "c"], "output": "all"}
    env = apply(step, a=np.array([[1, 2], [3, 4]]), b=np.array([5, 6]), c=np.array([[7], [8]]))
    assert env["all"].tolist() == [[1, 2, 5, 7], [3, 4, 6, 8]]


def test_concatenate_never_changes_a_datatype(apply: Any) -> None:
    step = {"op": "concatenate", "inputs": ["a", "b"], "output": "all"}
    with pytest.raises(ContractViolation, match=r"a FP32\[1,1\], b INT64\[1,1\]"):
        apply(step, a=np.ones((1, 1), F), b=np.ones((1, 1), np.int64))


def test_rows_cannot_be_concatenated() -> None:
    with pytest.raises(ValidationError):
        parse_step({"op": "concatenate", "inputs": ["a"], "output": "b", "axis": 0})


def test_one_hot_of_whole_numbers(apply: Any) -> None:
    out = apply({"op": "one_hot", "input": "x", "values": [10, 20, 30]}, x=np.array([20, 10], np.int32))["x"]
    assert out.dtype == np.float32
    assert out.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_one_hot_of_words(apply: Any) -> None:
    words = np.array([[b"s"], ["größe".encode()]], np.object_)
    out = apply({"op": "one_hot", "input": "x", "values": ["größe", "s"]}, x=words)["x"]
    assert out.tolist() == [[[0, 1]], [[1, 0]]]


@pytest.mark.parametrize(
    ("values", "known", "shown"),
    [(np.array([1, 4]), [1, 2], "4"), (np.array([b"a", b"x"], np.object_), ["a"], "'x'"),
     (np.array([[1, 1], [1, 7]]), [1, 2], "7"), (np.array([b"a", b"\xff"], np.object_), ["a"], "'\ufffd'")],
)  # fmt: skip
def test_one_hot_refuses_a_value_it_does_not_know(apply: Any, values: Any, known: Any, shown: str) -> None:
    with pytest.raises(InvalidInput, match=f"want one of .*, got row 1: {shown}"):
        apply({"op": "one_hot", "input": "x", "values": known}, x=values)


def test_one_hot_gives_zeros_for_the_unknown_when_configured(apply: Any) -> None:
    step = {"op": "one_hot", "input": "x", "values": [1, 2], "unknown": "zeros"}
    assert apply(step, x=np.array([3, 2]))["x"].tolist() == [[0, 0], [0, 1]]


CONSTANT = {"op": "constant", "output": "rate", "value": 16000, "datatype": "INT64"}


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, np.array([16000] * 2)),
        ({"value": 0.5, "datatype": "FP32", "shape": [2, 1]}, np.full((2, 2, 1), 0.5, F)),
        ({"value": [1, 2], "datatype": "FP64", "shape": [2]}, np.array([[1.0, 2.0]] * 2)),
        ({"value": True, "datatype": "BOOL"}, np.array([True] * 2)),
        ({"value": "öl", "datatype": "BYTES", "shape": [1]}, np.array([["öl".encode()]] * 2, object)),
    ],
)
def test_a_constant_is_the_same_in_every_row(apply: Any, fields: Any, want: Any) -> None:
    got = apply({**CONSTANT, **fields}, {"rows": 2})["rate"]
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"value": 1.5}, "value: does not fit INT64[n]: 1.5 is not INT64"),
        ({"value": 300, "datatype": "UINT8"}, "value: does not fit UINT8[n]: 300 is not UINT8"),
        ({"value": "a"}, "value: does not fit INT64[n]: 'a' is not INT64"),
        ({"value": [1, 2], "shape": [3]}, "value: does not fit INT64[n,3]"),
        ({"shape": [65536, 2]}, "shape: want at most 65536 values in a row, got 131072"),
    ],
)
def test_a_constant_fits_its_datatype_and_shape(fields: Any, fault: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(fault)):
        parse_step({**CONSTANT, **fields})
