"""Steps from the model's outputs to the answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from triptych.contract import Environment, Scope
from triptych.contract.steps.registry import parse_step
from triptych.errors import ContractViolation, InvalidParameter

F = np.float32
TOP = {"op": "top_k", "input": "x", "k": 2, "output": "score", "indices": "id"}


def test_argmax_goes_along_an_axis(apply: Any) -> None:
    scores = np.zeros((1, 3, 2, 2), F)
    scores[0, 1, 0], scores[0, 2, 1, 1] = 1, 5
    assert apply({"op": "argmax", "input": "x", "axis": 1}, x=scores)["x"].tolist() == [[[1, 1], [0, 2]]]
    scores[0, 0, 1, 0] = np.nan
    with pytest.raises(ContractViolation, match="argmax: 'x' has NaN in row 0"):
        apply({"op": "argmax", "input": "x", "axis": 1}, x=scores)
    with pytest.raises(ContractViolation, match=r"'x' is FP32\[1,2\] and has no dimension 2"):
        apply({"op": "argmax", "input": "x", "axis": 2}, x=np.zeros((1, 2), F))


def test_argmax_is_int32_and_takes_the_lower_of_equal_indices(apply: Any) -> None:
    out = apply({"op": "argmax", "input": "x"}, x=np.array([[1, 3, 3], [9, 0, 9]], F))["x"]
    assert out.dtype == np.int32
    assert out.tolist() == [1, 0]


def test_top_k_gives_values_and_indices_largest_first(apply: Any) -> None:
    env = apply(TOP, x=np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]], F))
    assert env["id"].dtype == np.int32
    assert env["id"].tolist() == [[1, 2], [0, 2]]
    np.testing.assert_array_equal(env["score"], np.array([[0.7, 0.2], [0.5, 0.4]], F))


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint8, np.int64])
def test_top_k_takes_the_lower_index_first_when_values_are_equal(apply: Any, dtype: Any) -> None:
    env = apply({**TOP, "k": 4}, x=np.array([[5, 7, 5, 7, 0]], dtype))
    assert env["id"].tolist() == [[1, 3, 0, 2]]


def test_top_k_orders_the_smallest_integer_last(apply: Any) -> None:
    assert apply({**TOP, "k": 3}, x=np.array([[-128, 127, 0]], np.int8))["id"].tolist() == [[1, 2, 0]]


def test_top_k_puts_nan_last(apply: Any) -> None:
    assert apply({**TOP, "k": 2}, x=np.array([[np.nan, 1, 2]], F))["id"].tolist() == [[2, 1]]


def test_top_k_comes_with_the_request(apply: Any) -> None:
    step = {**TOP, "k": {"parameter": "n"}}
    assert apply(step, {"values": {"n": 1}}, x=np.array([[1, 2]], F))["id"].tolist() == [[1]]


def test_more_than_there_is_names_the_parameter_or_the_contract(apply: Any) -> None:
    with pytest.raises(InvalidParameter, match="parameter 'n': want at most 2, got 3"):
        apply({**TOP, "k": {"parameter": "n"}}, {"values": {"n": 3}}, x=np.zeros((1, 2), F))
    with pytest.raises(ContractViolation, match="k is 3"):
        apply({**TOP, "k": 3}, x=np.zeros((1, 2), F))


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": True}, {"k": 1.0}, {"k": "2"}, {"indices": "score"}])
def test_top_k_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse_step({**TOP, **wrong})


def test_softmax_of_known_values(apply: Any) -> None:
    out = apply({"op": "softmax", "input": "x"}, x=np.log(np.array([[1, 2, 5]], F)))["x"]
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, [[0.125, 0.25, 0.625]], rtol=1e-6)


def test_softmax_does_not_overflow(apply: Any) -> None:
    out = apply({"op": "softmax", "input": "x"}, x=np.array([[1e4, -1e4, 1e4]], F))["x"]
    assert out.tolist() == [[0.5, 0.0, 0.5]]


def test_sigmoid_of_known_values_and_without_overflow(apply: Any) -> None:
    out = apply({"op": "sigmoid", "input": "x"}, x=np.array([[0, -1e4, 1e4, np.log(3)]], F))["x"]
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, [[0.5, 0, 1, 0.75]], rtol=1e-6)


def test_threshold_marks_what_reaches_it(apply: Any) -> None:
    values = np.array([[0.4, 0.5, np.nan]], F)
    assert apply({"op": "threshold", "input": "x", "minimum": 0.5}, x=values)["x"].tolist() == [[False, True, False]]
    step = {"op": "threshold", "input": "x", "minimum": {"parameter": "least"}}
    assert apply(step, {"values": {"least": 0.1}}, x=values)["x"].tolist() == [[True, True, False]]


def test_clip_moves_to_the_limits_and_keeps_the_datatype(apply: Any) -> None:
    step = {"op": "clip", "input": "x", "minimum": 0, "maximum": 10.5}
    out = apply(step, x=np.array([[-1, 5, 99]], F))["x"]
    assert out.dtype == np.float32
    assert out.tolist() == [[0, 5, 10.5]]
    assert apply({"op": "clip", "input": "x", "minimum": 0}, x=np.array([-1, 5]))["x"].tolist() == [0, 5]


def test_round_takes_halves_to_the_even_integer(apply: Any) -> None:
    out = apply({"op": "round", "input": "x"}, x=np.array([[0.5, 1.5, 2.5, -0.6]], F))["x"]
    assert out.tolist() == [[0, 2, 2, -1]]
    out = apply({"op": "round", "input": "x", "decimals": 1}, x=np.array([[0.26]]))["x"]
    assert out.tolist() == [[0.3]]


def test_scale_keeps_floats_and_makes_fp32_of_integers(apply: Any) -> None:
    step = {"op": "scale", "input": "x", "scale": [2, 0.5], "offset": 1}
    assert apply(step, x=np.array([[1, 4]], np.float64))["x"].tolist() == [[3, 3]]
    out = apply(step, x=np.array([[1, 4]], np.int64))["x"]
    assert out.dtype == np.float32
    assert out.tolist() == [[3, 3]]


def test_sum_goes_along_a_dimension_and_widens_integers(apply: Any) -> None:
    out = apply({"op": "sum", "input": "x"}, x=np.array([[100, 100], [1, 2]], np.int8))["x"]
    assert out.dtype == np.int64
    assert out.tolist() == [200, 3]
    assert apply({"op": "sum", "input": "x"}, x=np.array([[0.5, 1]], F))["x"].dtype == np.float32


def test_rows_cannot_be_summed() -> None:
    with pytest.raises(ValidationError):
        parse_step({"op": "sum", "input": "x", "axis": 0})


LABEL = {"op": "label", "input": "x", "labels": "digit"}


def test_label_turns_ids_of_any_shape_into_utf8(apply: Any) -> None:
    scope = {"labels": {"digit": ["null", "fünf", "七"]}}
    out = apply(LABEL, scope, x=np.array([[2, 0], [1, 1]], np.int32))["x"]
    assert out.dtype == np.object_
    assert out.tolist() == [["七".encode(), b"null"], ["fünf".encode(), "fünf".encode()]]


@pytest.mark.parametrize("bad", [-1, 2])
def test_an_id_without_a_label_is_a_fault_of_ours(apply: Any, bad: int) -> None:
    with pytest.raises(ContractViolation, match=r"id outside 0\.\.1"):
        apply(LABEL, {"labels": {"digit": ["a", "b"]}}, x=np.array([bad]))


def test_the_language_of_labels_can_come_with_the_request(apply: Any) -> None:
    parameter = {"name": "language", "type": "string", "default": "en", "choices": ["en", "de"]}
    scope = {"labels": {"en": ["one"], "de": ["eins"]}, "parameters": [parameter]}
    step = {**LABEL, "labels": {"parameter": "language"}}
    for language, word in (("en", b"one"), ("de", b"eins")):
        assert apply(step, {**scope, "values": {"language": language}}, x=np.array([0]))["x"] == [word]


# --- a row's answer does not depend on its neighbours

ROWS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 23)),
    elements=st.floats(-50, 50, width=32) | st.sampled_from([0.0, 1.0, -0.0]),
)
STEPS = [
    {"op": "softmax", "input": "x"},
    {"op": "sigmoid", "input": "x"},
    {"op": "sum", "input": "x"},
    {"op": "argmax", "input": "x"},
    {"op": "round", "input": "x", "decimals": 2},
    {"op": "scale", "input": "x", "scale": 0.3, "offset": 0.1},
    {"op": "l2_normalize", "input": "x"},
    {"op": "normalize", "input": "x", "mean": 0.3, "std": 1.7},
    {"op": "exp", "input": "x"},
    {"op": "top_k", "input": "x", "k": 1, "indices": "id"},
    {"op": "top_k", "input": "x", "k": {"parameter": "n"}, "indices": "id"},
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step["op"])
@given(values=ROWS)
def test_a_row_alone_gets_the_answer_it_gets_in_a_batch(step: dict[str, Any], values: Any) -> None:
    run = parse_step(step).compile(Scope())
    parameters = {"n": values.shape[1]}
    batch = Environment({"x": values}, len(values), parameters)
    run(batch)
    for row in range(len(values)):
        alone = Environment({"x": values[row : row + 1]}, 1, parameters)
        run(alone)
        for name, value in alone.items():
            np.testing.assert_array_equal(batch[name][row : row + 1], value, strict=True)


@given(values=ROWS)
def test_top_k_agrees_with_sorting_in_python(values: Any) -> None:
    env = Environment({"x": values}, len(values), {})
    parse_step({**TOP, "k": values.shape[1]}).compile(Scope())(env)
    for row, ids in zip(values.tolist(), env["id"].tolist(), strict=True):
        assert ids == sorted(range(len(row)), key=lambda i: (-row[i], i))


def test_each_class_can_have_a_threshold(apply: Any) -> None:
    values = np.array([[0.7, 0.7], [0.3, 0.3]], np.float32)
    out = apply({"op": "threshold", "input": "x", "minimum": [0.7, 0.3]}, x=values)["x"]
    assert out.tolist() == [[True, True], [False, True]]


def test_id_minus_1_has_the_word_for_none(apply: Any) -> None:
    scope = {"labels": {"animal": ["cat", "dog"]}}
    step = {"op": "label", "input": "x", "labels": "animal", "none": "nothing"}
    assert apply(step, scope, x=np.array([[1, -1, 0]]))["x"].tolist() == [[b"dog", b"nothing", b"cat"]]
    for outside in (-2, 2):
        with pytest.raises(ContractViolation, match=r"label: 'x' has an id outside -1\.\.1"):
            apply(step, scope, x=np.array([[outside]]))


def test_normalize_by_mean_and_std_is_that_of_torchvision(apply: Any) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (2, 4, 5, 3), np.uint8)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    step = {"op": "normalize", "input": "x", "scale": 1 / 255, "mean": mean, "std": std}
    expected = (pixels.astype(np.float32) / 255 - np.array(mean, np.float32)) / np.array(std, np.float32)
    np.testing.assert_allclose(apply(step, x=pixels)["x"], expected, atol=1e-6)
