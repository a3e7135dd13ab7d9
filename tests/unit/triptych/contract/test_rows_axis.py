"""Models whose rows are in another dimension than the first: the contract and its steps have them first."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from triptych.contract import Contract, Plan
from triptych.contract.verification.triton_config import check_config
from triptych.errors import ContractViolation

CONFIG = """\
name: "f"
backend: "onnxruntime"
max_batch_size: 0
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2, -1, 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3, 2, -1 ] } ]
"""


def contract(in_axis: int | None, out_axis: int | None, **more: Any) -> Contract:
    """A model from x [n,2,3] to y [n,3,2], but for the dimension of its rows."""

    def tensor(name: str, *dims: int, axis: int | None = None) -> dict[str, Any]:
        spec = {"name": name, "datatype": "FP32", "shape": [-1, *dims]}
        return spec if axis is None else {**spec, "rows_axis": axis}

    document = {
        **{"apiVersion": "triptych.dev/v1", "kind": "Contract", "family": "f", "max_rows": 8},
        "inputs": [tensor("x", 2, 3)],
        "model": {"inputs": [tensor("x", 2, 3, axis=in_axis)], "outputs": [tensor("y", 3, 2, axis=out_axis)]},
        "outputs": [tensor("y", 3, 2)],
        **more,
    }
    return Contract.model_validate_json(json.dumps(document))


axes = st.none() | st.integers(1, 2)


@given(in_axis=axes, out_axis=axes, rows=st.integers(1, 5))
def test_the_model_gets_and_gives_its_rows_where_it_has_them(
    in_axis: int | None, out_axis: int | None, rows: int
) -> None:
    plan = Plan(contract(in_axis, out_axis))
    x = np.arange(rows * 6, dtype=np.float32).reshape(rows, 2, 3)
    sent = plan.model_inputs(plan.preprocess({"x": x}))["x"]
    assert sent.shape == (*x.shape[1 : (in_axis or 0) + 1], rows, *x.shape[(in_axis or 0) + 1 :])
    for row in range(rows):
        np.testing.assert_array_equal(sent.take(row, in_axis or 0), x[row])
    y = np.ascontiguousarray(np.moveaxis(x.transpose(0, 2, 1), 0, out_axis or 0))
    np.testing.assert_array_equal(plan.predicted({"y": y, "more": y}, rows)["y"], x.transpose(0, 2, 1))


def test_outputs_with_the_rows_elsewhere_than_stated_are_refused() -> None:
    plan, rows_first = Plan(contract(None, 2)), np.zeros((5, 3, 2), np.float32)
    with pytest.raises(ContractViolation, match=r"model output 'y': want FP32\[n,3,2\] with n = 5, got FP32\[2,5,3\]"):
        plan.predicted({"y": rows_first}, 5)
    with pytest.raises(ContractViolation, match=r"got FP32\[6\]"):
        plan.predicted({"y": np.zeros(6, np.float32)}, 3)
    with pytest.raises(ContractViolation, match="got nothing"):
        plan.predicted({}, 3)


def test_a_tensor_has_the_dimension_of_its_rows() -> None:
    with pytest.raises(ValidationError, match=r"rows_axis: want 1 to 2 for \[-1, 2, 3\], got 3"):
        contract(3, None)
    with pytest.raises(ValidationError, match="rows_axis"):
        contract(None, None, outputs=[{"name": "y", "datatype": "FP32", "shape": [-1, 3, 2], "rows_axis": 1}])


def test_a_contract_without_it_is_as_before() -> None:
    assert b"rows_axis" not in contract(None, None).canonical_json()  # older stages read it, and its digest stays


def test_the_configuration_has_the_shapes_of_the_model() -> None:
    assert check_config(contract(1, 2), CONFIG, "f") == []
    (problem,) = check_config(contract(2, 2), CONFIG, "f")
    want = "[2, 3, -1] with the rows in dimension 2 in the contract"
    assert problem == f"config.pbtxt:4: input 'x' has dims [2, -1, 3], but {want}"
    fixed = CONFIG.replace("[ 2, -1, 3 ]", "[ 2, 1, 3 ]")
    assert check_config(contract(1, 2, max_rows=1), fixed, "f") == []
    (problem,) = check_config(contract(1, 2), fixed, "f")
    assert "input 'x' has dims [2, 1, 3], but [2, -1, 3] with the rows in dimension 1" in problem


def test_triton_joins_requests_in_the_first_dimension_alone() -> None:
    joined = (
        CONFIG.replace("size: 0", "size: 8").replace("[ 2, -1, 3 ]", "[ -1, 3 ]").replace("[ 3, 2, -1 ]", "[ 3, 2 ]")
    )
    problems = check_config(contract(1, None), joined, "f")
    where = "input 'x' has the rows in dimension 1 by its rows_axis"
    assert problems[-1].endswith(f"{where}, but Triton joins requests in the first; want max_batch_size: 0")
