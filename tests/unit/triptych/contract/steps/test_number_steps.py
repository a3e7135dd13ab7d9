"""Functions with a domain, missing values, codes of words, parts of dates, ends of files."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from triptych.contract.steps.registry import parse_step
from triptych.errors import ContractViolation, InvalidInput

F = np.float32


@pytest.mark.parametrize("op", ["log", "log1p", "exp", "expm1"])
def test_a_function_is_that_of_numpy(apply: Any, op: str) -> None:
    values = np.array([[0.5, 1.0], [2.0, np.nan]], F)
    out = apply({"op": op, "input": "x"}, x=values)["x"]
    np.testing.assert_array_equal(out, getattr(np, op)(values))
    assert out.dtype == F


def test_whole_numbers_become_floats(apply: Any) -> None:
    assert apply({"op": "log1p", "input": "x"}, x=np.array([[0, 1]]))["x"].dtype == F


@pytest.mark.parametrize(
    ("op", "value", "want"),
    [
        ("log", 0.0, "values > 0, got row 1: 0.0"),
        ("log", -1.0, "values > 0, got row 1: -1.0"),
        ("log1p", -1.0, "values > -1, got row 1: -1.0"),
        ("exp", 89.0, "values whose exponential is finite, got row 1: 89.0"),
        ("expm1", 1e30, "values whose exponential is finite, got row 1: "),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_value_outside_of_the_domain_is_refused(apply: Any, op: str, value: float, want: str) -> None:
    with pytest.raises(InvalidInput, match=want):
        apply({"op": op, "input": "x"}, x=np.array([[1.0, 1.0], [1.0, value]], F))


def test_nan_is_imputed_by_column(apply: Any) -> None:
    values = np.array([[np.nan, 1.0], [2.0, np.nan]], F)
    out = apply({"op": "impute", "input": "x", "value": [10, 20]}, x=values)["x"]
    assert out.tolist() == [[10.0, 1.0], [2.0, 20.0]]
    assert out.dtype == F
    assert np.isnan(values).sum() == 2


def test_listed_values_are_missing_ones(apply: Any, files: Any) -> None:
    numbers = apply({"op": "impute", "input": "x", "value": 0, "missing": [-999, -1]}, x=np.array([5, -999, -1]))["x"]
    words = apply({"op": "impute", "input": "x", "value": "none", "missing": ""}, x=files(b"", b"a"))["x"]
    assert numbers.tolist() == [5, 0, 0]
    assert words.tolist() == [b"none", b"a"]


def test_what_is_there_stays(apply: Any) -> None:
    values = np.ones((2, 2), F)
    assert apply({"op": "impute", "input": "x", "value": 0}, x=values)["x"] is values


@pytest.mark.parametrize(
    ("fields", "values", "fault"),
    [
        ({"value": 0}, np.array([1]), "'x' is INT64, which has no NaN; give missing"),
        ({"value": 0.5, "missing": -1}, np.array([-1]), "value 0.5 is not INT64"),
        ({"value": "a", "missing": -1}, np.array([-1]), "value 'a' is not INT64"),
        ({"value": 1, "missing": "a"}, np.array([-1]), "missing 'a' is not INT64"),
    ],
)
def test_impute_never_converts(apply: Any, fields: Any, values: Any, fault: str) -> None:
    with pytest.raises(ContractViolation, match=fault):
        apply({"op": "impute", "input": "x", **fields}, x=values)


ORDINAL = {"op": "ordinal", "input": "x", "values": ["red", "grün", "blue"]}


@given(words=st.lists(st.sampled_from(["red", "grün", "blue"]), min_size=1, max_size=8))
def test_words_become_their_places(apply: Any, files: Any, words: list[str]) -> None:
    out = apply(ORDINAL, x=files(*[word.encode() for word in words]))["x"]
    assert out.tolist() == [["red", "grün", "blue"].index(word) for word in words]
    assert out.dtype == np.int64


def test_an_unknown_word_is_refused_or_has_a_code(apply: Any, files: Any) -> None:
    with pytest.raises(InvalidInput, match="one of red, grün, blue, got row 1: 'pink'"):
        apply(ORDINAL, x=files(b"red", b"pink"))
    out = apply({**ORDINAL, "unknown": -1, "datatype": "FP32"}, x=files(b"blue", b"pink"))["x"]
    assert out.tolist() == [2.0, -1.0]
    assert out.dtype == F


@pytest.mark.parametrize(
    "fields", [{"unknown": -1, "datatype": "UINT8"}, {"unknown": 300, "datatype": "INT8"}, {"values": ["a", "a"]}]
)
def test_codes_fit_the_datatype(fields: Any) -> None:
    with pytest.raises(ValidationError):
        parse_step({**ORDINAL, **fields})


PARTS = ["year", "quarter", "month", "week", "day", "weekday", "day_of_year", "hour", "minute", "second"]


def test_a_date_has_the_parts_of_its_text(apply: Any, files: Any) -> None:
    step = {"op": "date_parts", "input": "x", "parts": PARTS, "datatype": "INT64"}
    out = apply(step, x=files(b"2026-11-29T18:30:05+05:00", b"2024-12-30", b"2023-01-01"))["x"]
    assert out.tolist() == [
        [2026, 4, 11, 48, 29, 6, 333, 18, 30, 5],
        [2024, 4, 12, 1, 30, 0, 365, 0, 0, 0],
        [2023, 1, 1, 52, 1, 6, 1, 0, 0, 0],
    ]


@given(moment=st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda at: at.replace(microsecond=0)))
def test_seconds_and_text_give_the_same_parts(apply: Any, files: Any, moment: datetime) -> None:
    seconds = round((moment - datetime(1970, 1, 1)).total_seconds())
    step = {"op": "date_parts", "input": "x", "parts": PARTS}
    by_text = apply(step, x=files(moment.isoformat().encode()))["x"]
    np.testing.assert_array_equal(apply({**step, "format": "epoch_s"}, x=np.array([seconds]))["x"], by_text)
    np.testing.assert_array_equal(apply({**step, "format": "epoch_ms"}, x=np.array([seconds * 1000]))["x"], by_text)


@pytest.mark.parametrize("text", [b"29.11.2026", b"", b"2026-02-30", b"\xff", b"yesterday"])
def test_what_is_no_date_is_refused_by_its_row(apply: Any, files: Any, text: bytes) -> None:
    with pytest.raises(InvalidInput, match="a date as 2026-11-29 or 2026-11-29T18:30:00, got row 1: "):
        apply({"op": "date_parts", "input": "x", "parts": ["day"]}, x=files(b"2026-11-29", text))


@pytest.mark.parametrize("seconds", [10**15, -(10**15), 2**63 - 1])
def test_a_number_beyond_all_years_is_refused(apply: Any, seconds: int) -> None:
    with pytest.raises(InvalidInput, match="a date within the years 1 to 9999, in epoch_s, got row 0: "):
        apply({"op": "date_parts", "input": "x", "parts": ["day"], "format": "epoch_s"}, x=np.array([seconds]))


ENDS = {"op": "file_ends", "input": "x", "first": 4, "last": 3}


def test_the_ends_of_a_file_become_numbers(apply: Any, files: Any) -> None:
    out = apply(ENDS, x=files(b"abcdefgh", b"ab", b""))["x"]
    assert out.tolist() == [[97, 98, 99, 100, 102, 103, 104], [97, 98, 256, 256, 256, 97, 98], [256] * 7]
    assert out.dtype == np.int32


def test_white_space_is_cut_off_only_near_the_ends(apply: Any, files: Any) -> None:
    step = {**ENDS, "strip": 6}
    out = apply(step, x=files(b" \n  ab  xyz \t\n", b"          end"))["x"]
    assert out.tolist() == [[97, 98, 256, 256, 120, 121, 122], [256] * 4 + [101, 110, 100]]


@pytest.mark.parametrize("fields", [{"first": 0, "last": 0}, {"strip": 2}])
def test_the_ends_take_some_bytes(fields: Any) -> None:
    with pytest.raises(ValidationError):
        parse_step({**ENDS, **fields})


MULTIPLY = {"op": "multiply", "inputs": ["a", "b"], "output": "y"}


def test_a_product_repeats_dimensions_of_one(apply: Any) -> None:
    objectness, scores = np.array([[[0.5], [0.1]]], np.float32), np.array([[[0.2, 0.4], [1, 0]]], np.float32)
    for a, b in ((objectness, scores), (scores, objectness)):
        product = apply(MULTIPLY, a=a, b=b)["y"]
        np.testing.assert_array_equal(product, objectness * scores)
        assert product.dtype == np.float32


@pytest.mark.parametrize(
    ("a", "b", "datatype"),
    [
        ("bool", "int32", "float32"),
        ("float16", "float16", "float16"),
        ("float16", "bool", "float32"),
        ("int64", "float64", "float64"),
    ],
)
def test_a_product_is_floating(apply: Any, a: str, b: str, datatype: str) -> None:
    product = apply(MULTIPLY, a=np.array([[3, 0]], a), b=np.array([[1, 1]], b))["y"]
    assert product.dtype == datatype
    assert product.tolist() == [[1 if a == "bool" else 3, 0]]


def test_a_product_beyond_its_datatype_is_refused(apply: Any) -> None:
    with pytest.raises(InvalidInput, match="input 'y': want values that fit FP16"):
        apply(MULTIPLY, a=np.array([[300]], np.float16), b=np.array([[300]], np.float16))


@pytest.mark.parametrize("shape", [(1, 3), (1, 2, 1), (1,)])
def test_shapes_without_a_common_one_are_refused(apply: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ContractViolation, match=r"multiply: want one shape, or 1 in place of a dimension; got 'a' FP"):
        apply(MULTIPLY, a=np.ones((1, 2), np.float32), b=np.ones(shape, np.float32))
