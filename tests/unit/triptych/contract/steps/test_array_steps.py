"""Dimensions of arrays: reshaped, reordered, sliced, squeezed, renamed. Rows stay rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from triptych.contract.steps.registry import parse_step
from triptych.errors import ContractViolation

VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("shape", "result"), [([-1], (2, 12)), ([2, -1], (2, 2, 6)), ([4, 3], (2, 4, 3)), ([1, 12], (2, 1, 12))]
)
def test_reshape_keeps_the_rows(apply: Any, shape: list[int], result: tuple[int, ...]) -> None:
    out = apply({"op": "reshape", "input": "x", "shape": shape}, x=VALUES)["x"]
    np.testing.assert_array_equal(out, VALUES.reshape(result))


def test_a_column_can_become_single_values(apply: Any) -> None:
    assert apply({"op": "reshape", "input": "x", "shape": []}, x=np.ones((3, 1)))["x"].shape == (3,)


def test_reshape_names_what_does_not_fit(apply: Any) -> None:
    with pytest.raises(ContractViolation, match=r"reshape: 'x' is FP32\[2,3,4\], want \[5, -1\]"):
        apply({"op": "reshape", "input": "x", "shape": [5, -1]}, x=VALUES)


@given(order=st.permutations([1, 2, 3]))
def test_transpose_is_that_of_numpy(apply: Any, order: list[int]) -> None:
    values = np.arange(120).reshape(2, 3, 4, 5)
    out = apply({"op": "transpose", "input": "x", "order": order}, x=values)["x"]
    np.testing.assert_array_equal(out, np.transpose(values, (0, *order)))
    assert out.flags.c_contiguous


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"start": 1}, VALUES[:, 1:]),
        ({"axis": 2, "stop": 2}, VALUES[:, :, :2]),
        ({"axis": 2, "start": -3, "stop": -1}, VALUES[:, :, -3:-1]),
    ],
)
def test_slice_is_that_of_numpy(apply: Any, fields: Any, result: Any) -> None:
    np.testing.assert_array_equal(apply({"op": "slice", "input": "x", **fields}, x=VALUES)["x"], result)


@pytest.mark.parametrize("fields", [{"stop": 4}, {"start": 3}, {"start": -4}, {"start": 2, "stop": 1}, {"axis": 3}])
def test_a_slice_beyond_the_end_is_not_cut_in_silence(apply: Any, fields: Any) -> None:
    with pytest.raises(ContractViolation, match=r"slice: "):
        apply({"op": "slice", "input": "x", **fields}, x=VALUES)


def test_squeeze_removes_a_dimension_of_one(apply: Any) -> None:
    assert apply({"op": "squeeze", "input": "x", "axis": 2}, x=np.ones((3, 2, 1)))["x"].shape == (3, 2)
    with pytest.raises(ContractViolation, match=r"squeeze: 'x' is FP32\[2,3,4\], want 1 in dimension 1"):
        apply({"op": "squeeze", "input": "x"}, x=VALUES)


def test_rename_keeps_the_value(apply: Any) -> None:
    assert apply({"op": "rename", "input": "x", "output": "y"}, x=VALUES)["y"] is VALUES


@pytest.mark.parametrize(
    "step",
    [
        {"op": "reshape", "input": "x", "shape": [-1, -1]}, {"op": "reshape", "input": "x", "shape": [0]},
        {"op": "transpose", "input": "x", "order": [0, 1]}, {"op": "transpose", "input": "x", "order": [1, 3]},
        {"op": "slice", "input": "x", "axis": 0}, {"op": "squeeze", "input": "x", "axis": 0},
    ],
)  # fmt: skip
def test_the_rows_cannot_be_touched(step: Any) -> None:
    with pytest.raises(ValidationError):
        parse_step(step)
