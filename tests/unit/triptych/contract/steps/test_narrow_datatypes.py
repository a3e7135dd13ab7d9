"""Steps compute in the range of FP32 or FP64: FP16 ends at 65,504, and small whole numbers wrap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from triptych.contract.steps.registry import parse_step
from triptych.errors import ContractViolation, InvalidInput

HALF, SINGLE = np.float16, np.float32
NUMERIC = [np.int8, np.uint8, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64]
WIDE = np.array([[-128, 127, 0, 5]], np.float64)
FLOAT_OF = {np.float16: np.float16, np.float64: np.float64}  # any other becomes FP32


def reference(op: str, values: Any) -> Any:
    if op == "softmax":
        powers = np.exp(values - values.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)
    if op == "l2_normalize":
        return values / np.sqrt((values**2).sum(axis=-1, keepdims=True))
    return {"sigmoid": lambda: 1 / (1 + np.exp(-values)), "scale": lambda: values * 300 + 0.5}[op]()


@pytest.mark.parametrize("op", ["softmax", "sigmoid", "scale", "l2_normalize"])
@pytest.mark.parametrize("dtype", NUMERIC)
def test_a_step_gives_the_same_for_every_datatype(apply: Any, op: str, dtype: Any) -> None:
    values = np.abs(WIDE) if dtype is np.uint8 else WIDE
    step = {"op": op, "input": "x", **({"scale": 300.0, "offset": 0.5} if op == "scale" else {})}
    out = apply(step, x=values.astype(dtype))["x"]
    assert out.dtype == FLOAT_OF.get(dtype, np.float32)
    np.testing.assert_allclose(out, reference(op, values), rtol=1e-3, atol=1e-7)


def test_probabilities_of_more_classes_than_fp16_can_count(apply: Any) -> None:
    out = apply({"op": "softmax", "input": "x"}, x=np.zeros((1, 70_000), HALF))["x"]
    assert out.min() > 0
    assert out.sum(dtype=np.float64) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize(("dtype", "most"), [(HALF, 65504), (SINGLE, 1e25), (np.float64, 1e307)])
def test_rounding_to_decimals_keeps_large_values(apply: Any, dtype: Any, most: float) -> None:
    values = np.array([[100, 0.123456, most, np.inf]], dtype)
    with np.errstate(over="ignore"):  # as in a plan
        out = apply({"op": "round", "input": "x", "decimals": 3}, x=values)["x"]
        many = apply({"op": "round", "input": "x", "decimals": 15}, x=values)["x"]
    assert out.tolist() == np.array([[100, 0.123, most, np.inf]], dtype).tolist()
    assert many.tolist() == values.tolist()


@pytest.mark.parametrize("shape", [(1, 4096), (1, 4096, 2), (2, 3, 4096)])
def test_a_sum_of_fp16_does_not_stop_at_2048(apply: Any, shape: tuple[int, ...]) -> None:
    axis = shape.index(4096)
    out = apply({"op": "sum", "input": "x", "axis": axis}, x=np.ones(shape, HALF))["x"]
    assert out.dtype == HALF
    assert set(out.ravel().tolist()) == {4096}


@pytest.mark.parametrize(
    ("values", "total"),
    [
        (np.array([[2**62, 2**62 - 1], [1, 2]], np.int64), [2**63 - 1, 3]),
        (np.array([[2**63 - 1, 1, -5]], np.int64), [2**63 - 5]),
        (np.array([[2**63, 2**63 - 1]], np.uint64), [2**64 - 1]),
        (np.array([[200, 100]], np.uint8), [300]),
        (np.array([[-(2**63), 2**63 - 1]], np.int64), [-1]),
    ],
)
def test_whole_numbers_are_summed_exactly(apply: Any, values: Any, total: list[int]) -> None:
    assert apply({"op": "sum", "input": "x"}, x=values)["x"].tolist() == total


@pytest.mark.parametrize(
    "values",
    [
        np.array([[1, 1], [2**62, 2**62]], np.int64),
        np.array([[1, 1], [-(2**63), -1]], np.int64),
        np.array([[1, 1], [2**63, 2**63]], np.uint64),
        np.array([[1, 1], [60000, 60000]], HALF),
    ],
)
def test_a_sum_that_would_wrap_is_refused(apply: Any, values: Any) -> None:
    with pytest.raises(InvalidInput, match="input 'x': want .* that fits? .*, got row 1: "):
        apply({"op": "sum", "input": "x"}, x=values)


def test_a_scaled_value_beyond_its_datatype_is_refused(apply: Any) -> None:
    step = {"op": "scale", "input": "x", "scale": 131_072.0}
    assert apply(step, x=np.array([[0.25]], HALF))["x"].tolist() == [[32_768]]
    with pytest.raises(InvalidInput, match="want values that fit FP16, got row 0: 131072.0"):
        apply(step, x=np.array([[1]], HALF))


@pytest.mark.parametrize("dtype", [HALF, SINGLE, np.float64])
@pytest.mark.parametrize("bad", [[[1, np.nan, 3]], [[np.nan] * 3], [[np.nan, -np.inf, -np.inf]]])
def test_nan_has_no_class(apply: Any, dtype: Any, bad: Any) -> None:
    values = np.array([[1, 2, 3], *bad], dtype)
    with pytest.raises(ContractViolation, match="argmax: 'x' has NaN in row 1"):
        apply({"op": "argmax", "input": "x"}, x=values)
    with pytest.raises(ContractViolation, match="top_k: 'x' has NaN in row 1"):
        apply({"op": "top_k", "input": "x", "k": 3, "output": "score", "indices": "id"}, x=values)


def test_infinity_has_one(apply: Any) -> None:
    values = np.array([[1, np.inf, -np.inf]], SINGLE)
    assert apply({"op": "argmax", "input": "x"}, x=values)["x"].tolist() == [1]
    assert apply({"op": "argmax", "input": "x"}, x=np.array([["a"], ["b"]]) == "b")["x"].tolist() == [0, 0]
    env = apply({"op": "top_k", "input": "x", "k": 3, "output": "score", "indices": "id"}, x=values)
    assert env["id"].tolist() == [[1, 0, 2]]


@pytest.mark.parametrize(
    ("datatype", "values"),
    [("UINT8", [[[[1.0, -1.5]]]]), ("UINT8", [[[[300.0, 0]]]]), ("UINT8", [[[[np.nan, 0]]]]), ("FP16", [[[[1e5, 0]]]])],
)
def test_pixels_that_the_models_datatype_cannot_hold_are_refused(apply: Any, datatype: str, values: Any) -> None:
    step = {"op": "layout", "input": "x", "order": "nhwc", "datatype": datatype}
    with pytest.raises(InvalidInput, match=f"want values that fit {datatype}, got row 0: "):
        apply(step, x=np.array(values, SINGLE))


def test_pixels_that_it_can_hold_are_the_same(apply: Any) -> None:
    step = {"op": "layout", "input": "x", "order": "nchw", "datatype": "UINT8"}
    out = apply(step, x=np.array([[[[1.0, 255.0]]]], SINGLE))["x"]
    assert (out.dtype, out.tolist(), out.flags.c_contiguous) == (np.uint8, [[[[1]], [[255]]]], True)


@pytest.mark.parametrize(("source", "target"), [("rgb", "hsv"), ("rgb", "lab"), ("hsv", "rgb"), ("lab", "rgb")])
def test_hsv_and_lab_are_those_of_8_bit(apply: Any, source: str, target: str) -> None:
    step = {"op": "convert_color", "input": "x", "source": source, "target": target}
    with pytest.raises(ContractViolation, match="want UINT8 pictures for HSV and Lab, got FP32"):
        apply(step, x=np.ones((1, 2, 2, 3), SINGLE))
    swap = {"op": "convert_color", "input": "x", "source": "rgb", "target": "bgr"}
    assert apply(swap, x=np.array([[[[1, 2, 3]]]], SINGLE))["x"].tolist() == [[[[3, 2, 1]]]]


@pytest.mark.parametrize("dtype", [HALF, SINGLE, np.float64])
def test_a_norm_does_not_overflow_and_a_vector_of_zeros_stays(apply: Any, dtype: Any) -> None:
    out = apply({"op": "l2_normalize", "input": "x"}, x=np.array([[30_000, 40_000], [0, 0]], dtype))["x"]
    assert out.dtype == dtype
    np.testing.assert_allclose(out, np.array([[0.6, 0.8], [0, 0]]), rtol=1e-3)


def test_nan_has_no_symbol(apply: Any) -> None:
    step = {"op": "ctc_decode", "input": "x", "labels": "t", "output": "text"}
    with pytest.raises(ContractViolation, match="ctc_decode: 'x' has NaN in row 1"):
        apply(step, {"labels": {"t": ["", "a"]}}, x=np.array([[[0, 1]], [[0, np.nan]]], SINGLE))


@pytest.mark.parametrize(
    ("part", "datatype"), [("year", "UINT8"), ("year", "FP16"), ("day_of_year", "UINT8"), ("minute", "BOOL")]
)
def test_a_datatype_that_does_not_hold_a_part_of_a_date_is_refused(part: str, datatype: str) -> None:
    with pytest.raises(ValidationError, match=f"{datatype} does not hold the {part} up to "):
        parse_step({"op": "date_parts", "input": "x", "parts": [part], "datatype": datatype})


@pytest.mark.parametrize("step", [{"value": 1e6}, {"value": 0.0, "missing": -1e6}])
def test_a_value_that_would_be_imputed_as_infinity_is_refused(apply: Any, step: dict[str, Any]) -> None:
    with np.errstate(over="ignore"), pytest.raises(ContractViolation, match="is beyond FP16"):
        apply({"op": "impute", "input": "x", **step}, x=np.array([[np.nan, 1]], HALF))
