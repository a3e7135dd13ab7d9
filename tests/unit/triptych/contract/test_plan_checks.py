"""Checks of callers' inputs before any other work."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from triptych.contract import Contract, InputSpec, Plan, Scalar
from triptych.contract.checks import InputCheck
from triptych.datatypes import TO_NUMPY
from triptych.errors import ContractViolation, InvalidInput, InvalidParameter, InvalidRequest

F = np.float32
Tensors = dict[str, Any]


@pytest.fixture
def good() -> Tensors:
    return {
        "history": np.ones((3, 28), F),
        "price": np.ones((3, 7), F),
        "promotion": np.zeros((3, 7), np.bool_),
    }


def test_good_inputs_pass_and_their_rows_are_counted(sales_plan: Plan, good: Tensors) -> None:
    assert sales_plan.check_inputs(good) == 3


def test_the_most_rows_pass_and_one_more_does_not(sales_plan: Plan, good: Tensors) -> None:
    assert sales_plan.check_inputs({n: np.repeat(a[:1], 256, axis=0) for n, a in good.items()}) == 256
    with pytest.raises(InvalidRequest, match="want 1 to 256 rows, got 257"):
        sales_plan.check_inputs({n: np.repeat(a[:1], 257, axis=0) for n, a in good.items()})


BAD: list[tuple[str, Callable[[Tensors], object], str]] = [
    (
        "datatype and shape",
        lambda t: t.update(history=np.zeros((3, 27))),
        "input 'history': want FP32[n,28], got FP64[3,27]",
    ),
    (
        "rank",
        lambda t: t.update(price=np.zeros(3, F)),
        "input 'price': want FP32[n,7], got FP32[3]",
    ),
    ("scalar", lambda t: t.update(price=np.zeros((), F)), "input 'price': want FP32[n,7], got FP32[]"),
    ("missing", lambda t: t.pop("price"), "input 'price': want FP32[n,7], got nothing"),
    (
        "extra",
        lambda t: t.update(prize=t["price"]),
        "input 'prize': want one of history, price, promotion, got an input of another name",
    ),
    (
        "rows that differ",
        lambda t: t.update(price=np.ones((2, 7), F)),
        "want the same number of rows in all inputs, got history 3, price 2, promotion 3",
    ),
    ("no rows", lambda t: t.update({n: a[:0] for n, a in t.items()}), "want 1 to 256 rows, got none"),
    ("nothing at all", lambda t: t.clear(), "input 'history': want FP32[n,28], got nothing"),
    ("NaN", lambda t: t["history"].__setitem__((1, 2), np.nan), "finite values >= 0, got row 1: nan"),
    ("infinity", lambda t: t["history"].__setitem__((2, 0), np.inf), "finite values >= 0, got row 2: inf"),
    (
        "minus infinity",
        lambda t: t["price"].__setitem__((0, 0), -np.inf),
        "finite values > 0, got row 0: -inf",
    ),
    (
        "below",
        lambda t: t["history"].__setitem__((1, 2), -1),
        "input 'history': want values >= 0, got row 1: -1.0",
    ),
    ("at the open end", lambda t: t["price"].__setitem__((2, 6), 0), "want values > 0, got row 2: 0.0"),
    (
        "a bool of 2",
        lambda t: t.update(promotion=np.frombuffer(bytes(20) + b"\x02", np.bool_).reshape(3, 7)),
        "input 'promotion': want bytes of 0 or 1, got row 2: a byte above 1",
    ),
]


@pytest.mark.parametrize(("spoil", "text"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_inputs_are_refused_with_what_was_wanted_and_what_came(
    sales_plan: Plan, good: Tensors, spoil: Callable[[Tensors], object], text: str
) -> None:
    spoil(good)
    with pytest.raises(InvalidRequest) as caught:
        sales_plan.check_inputs(good)
    assert text in str(caught.value)


def limited(sales_document: dict[str, Any], **limits: Any) -> Plan:
    sales_document["inputs"][0] = {"name": "history", "datatype": "FP32", "shape": [-1, 28], **limits}
    return Plan(Contract.model_validate_json(json.dumps(sales_document)))


@pytest.mark.parametrize(
    ("limits", "passes", "fails"),
    [
        ({}, [-1e30, 1e30], [np.nan, np.inf, -np.inf]),
        ({"finite": False}, [np.nan, np.inf, -np.inf], []),
        ({"finite": False, "minimum": 0}, [np.inf, 0], [np.nan, -1]),
        ({"maximum": 5}, [5, -1e30], [5.001, -np.inf, np.nan]),
        ({"exclusive_minimum": 0, "exclusive_maximum": 1}, [0.5], [0, 1, np.nan]),
        ({"minimum": -1, "maximum": 1}, [-1, 1], [-1.01, 1.01]),
    ],
)
def test_limits_hold_at_their_ends(
    sales_document: dict[str, Any], good: Tensors, limits: Any, passes: list[float], fails: list[float]
) -> None:
    plan = limited(sales_document, **limits)
    for value in passes:
        plan.check_inputs({**good, "history": np.full((3, 28), value, F)})
    for value in fails:
        with pytest.raises(InvalidInput, match="input 'history'"):
            plan.check_inputs({**good, "history": np.full((3, 28), value, F)})


def test_an_optional_input_may_be_left_out(digits_plan: Plan, files: Any) -> None:
    image = files(b"a", b"b")
    assert digits_plan.check_inputs({"image": image}) == 2
    assert digits_plan.check_inputs({"image": image, "box": np.zeros((2, 4), np.int32)}) == 2
    with pytest.raises(InvalidRequest, match="got image 2, box 1"):
        digits_plan.check_inputs({"image": image, "box": np.zeros((1, 4), np.int32)})


def test_an_element_over_the_byte_limit_is_refused(digits_plan: Plan, files: Any) -> None:
    digits_plan.check_inputs({"image": files(bytes(10485760))})
    with pytest.raises(InvalidInput, match=r"at most 10485760 bytes, got row 1: 10485761 bytes"):
        digits_plan.check_inputs({"image": files(b"", bytes(10485761))})


@pytest.mark.parametrize("element", [b"\xff", "ü".encode("latin-1"), b"a\0b"])
def test_bytes_that_are_no_text_are_refused_where_the_contract_wants_text(files: Any, element: bytes) -> None:
    check = InputCheck([InputSpec(name="word", datatype="BYTES", shape=(-1,), utf8=True)], max_rows=4)
    assert check({"word": files(b"", "Grün 漢字 😀".encode())}) == 2
    with pytest.raises(InvalidInput, match=r"text in UTF-8 without a zero byte, got row 1: b'"):
        check({"word": files(b"good", element)})


def test_dimensions_of_any_size_are_taken(sales_document: dict[str, Any]) -> None:
    sales_document["inputs"].append({"name": "notes", "datatype": "BYTES", "shape": [-1, -1], "max_bytes": 3})
    sales_document["inputs"].append({"name": "grid", "datatype": "FP32", "shape": [-1, -1, 2]})
    plan = Plan(Contract.model_validate_json(json.dumps(sales_document)))
    inputs = {
        "history": np.ones((1, 28), F), "price": np.ones((1, 7), F), "promotion": np.zeros((1, 7), np.bool_),
        "notes": np.array([[b"a", b"abc"]], np.object_), "grid": np.ones((1, 5, 2), F),
    }  # fmt: skip
    assert plan.check_inputs(inputs) == 1
    with pytest.raises(InvalidInput, match=r"want FP32\[n,\?,2\], got FP32\[1,0,2\]"):
        plan.check_inputs({**inputs, "grid": np.ones((1, 0, 2), F)})
    with pytest.raises(InvalidInput, match=r"want BYTES\[n,\?\], got BYTES\[1,0\]"):
        plan.check_inputs({**inputs, "notes": np.empty((1, 0), np.object_)})
    with pytest.raises(InvalidInput, match=r"want FP32\[n,\?,2\], got FP32\[1,5,3\]"):
        plan.check_inputs({**inputs, "grid": np.ones((1, 5, 3), F)})
    with pytest.raises(InvalidInput, match="row 0: 4 bytes"):
        plan.check_inputs({**inputs, "notes": np.array([[b"a", b"abcd"]], np.object_)})


# --- parameters


def test_defaults_are_filled_in_and_reserved_parameters_left_out(digits_plan: Plan) -> None:
    assert digits_plan.check_parameters({}) == {"top_k": 3}
    sent: dict[str, Scalar] = {"top_k": 10, "route": "DE", "alias": "a", "traffic_key": "a", "triptych_revision": "x"}
    assert digits_plan.check_parameters(sent) == {"top_k": 10}


@pytest.mark.parametrize("value", [0, 11, 2.0, "3", True, -(2**63)])
def test_a_parameter_of_wrong_type_or_range_is_refused(digits_plan: Plan, value: Any) -> None:
    with pytest.raises(InvalidParameter, match="parameter 'top_k': want int64 from 1 to 10, got "):
        digits_plan.check_parameters({"top_k": value})


def test_an_unknown_parameter_is_refused(digits_plan: Plan, sales_plan: Plan) -> None:
    with pytest.raises(InvalidParameter, match="parameter 'topk': want one of top_k"):
        digits_plan.check_parameters({"topk": 3})
    with pytest.raises(InvalidParameter, match="parameter 'top_k': want no parameters"):
        sales_plan.check_parameters({"top_k": 3})


def test_a_whole_number_does_for_a_double_but_nan_does_not(sales_document: dict[str, Any]) -> None:
    sales_document["parameters"] = [{"name": "least", "type": "double", "default": 0.5}]
    plan = Plan(Contract.model_validate_json(json.dumps(sales_document)))
    checked = plan.check_parameters({"least": 2})["least"]
    assert isinstance(checked, float)
    for bad in (float("nan"), float("inf"), "1", True):
        with pytest.raises(InvalidParameter):
            plan.check_parameters({"least": bad})


# --- the model's answer


def test_outputs_as_the_contract_declares_pass(sales_plan: Plan) -> None:
    sales_plan.check_model_outputs({"forecast": np.zeros((2, 7), F), "unasked": np.zeros(1)}, 2)


@pytest.mark.parametrize(
    ("outputs", "got"),
    [
        ({}, "nothing"),
        ({"forecast": np.zeros((2, 6), F)}, r"FP32\[2,6\]"),
        ({"forecast": np.zeros((1, 7), F)}, r"FP32\[1,7\]"),
        ({"forecast": np.zeros((2, 7))}, r"FP64\[2,7\]"),
    ],
)
def test_what_it_does_not_accept_is_a_fault_of_ours(sales_plan: Plan, outputs: Tensors, got: str) -> None:
    with pytest.raises(ContractViolation, match=rf"want FP32\[n,7\] with n = 2, got {got}"):
        sales_plan.check_model_outputs(outputs, 2)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize(
    ("limit", "is_good"),
    [("minimum", True), ("maximum", True), ("exclusive_minimum", False), ("exclusive_maximum", False)],
)
@pytest.mark.parametrize("rows", [1, 65])
def test_a_limit_holds_in_the_datatype_for_any_number_of_rows(
    datatype: str, limit: str, is_good: bool, rows: int
) -> None:
    """0.1 and 0.7 are other numbers in FP32: one is above, the other below that of FP64."""
    for bound in (0.1, 0.7):
        spec = InputSpec.model_validate({"name": "x", "datatype": datatype, "shape": (-1, 1), limit: bound})
        values = {"x": np.full((rows, 1), bound, TO_NUMPY[datatype])}
        check = InputCheck([spec], 100)
        if is_good:
            assert check(values) == rows
        else:
            with pytest.raises(InvalidInput, match="got row 0"):
                check(values)
