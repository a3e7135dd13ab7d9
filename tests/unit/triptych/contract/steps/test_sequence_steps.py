"""One vector or one text for each row: norms, means over places, CTC."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.contract.steps.base import Facts, Scope
from triptych.contract.steps.registry import parse_step
from triptych.errors import ContractViolation, InvalidInput

F = np.float32


def test_a_vector_gets_the_norm_1_and_zeros_stay(apply: Any) -> None:
    out = apply({"op": "l2_normalize", "input": "x"}, x=np.array([[3, 4], [0, 0]], F))["x"]
    np.testing.assert_allclose(out, np.array([[0.6, 0.8], [0, 0]]), rtol=1e-7)
    assert out.dtype == F


def test_the_mean_is_that_of_the_marked_places(apply: Any) -> None:
    values = np.array([[[1, 2], [3, 4], [9, 9]], [[1, 1], [2, 2], [3, 3]], [[5, 5]] * 3], F)
    mask = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0]])
    out = apply({"op": "mean_pool", "input": "x", "mask": "m", "output": "y"}, x=values, m=mask)["y"]
    assert out.tolist() == [[2, 3], [2, 2], [0, 0]]
    assert apply({"op": "mean_pool", "input": "x"}, x=values)["x"][0].tolist() == pytest.approx([13 / 3, 5])


def test_a_mask_of_other_places_is_refused(apply: Any) -> None:
    with pytest.raises(
        ContractViolation, match=r"mean_pool: want \[n,t,d\] and a mask \[n,t\], got FP32\[1,3,2\] and BOOL\[1,2\]"
    ):
        apply({"op": "mean_pool", "input": "x", "mask": "m"}, x=np.zeros((1, 3, 2), F), m=np.ones((1, 2)))


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_a_mask_marks_the_places_within_the_length_of_each_row(apply: Any, lengths: list[int]) -> None:
    step = {"op": "sequence_mask", "input": "n", "like": "x", "output": "m", "datatype": "INT32"}
    mask = apply(step, n=np.array(lengths, np.int32), x=np.zeros((len(lengths), 9), F))["m"]
    assert mask.tolist() == [[1] * length + [0] * (9 - length) for length in lengths]
    assert mask.dtype == np.int32


def test_a_length_beyond_the_places_is_refused(apply: Any) -> None:
    step = {"op": "sequence_mask", "input": "n", "like": "x", "output": "m"}
    for wrong in (3, -1):
        with pytest.raises(InvalidInput, match=f"input 'n': want lengths from 0 to 2, got row 1: {wrong}"):
            apply(step, n=np.array([2, wrong]), x=np.zeros((2, 2), F))
    with pytest.raises(ContractViolation, match=r"want whole numbers \[n\] and \[n,t,...\], got FP32\[2\]"):
        apply(step, n=np.zeros(2, F), x=np.zeros((2, 2), F))


SYMBOLS = ["-", "a", "b", "é"]
CTC = {"op": "ctc_decode", "input": "x", "labels": "symbols", "output": "text", "score": "score"}


def scores(*places: int) -> Any:
    """Scores [t,4] whose best symbols are these."""
    values = np.full((len(places), len(SYMBOLS)), 0.05, F)
    values[np.arange(len(places)), places] = 0.85
    return values


@given(rows=st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=4))
def test_a_text_is_its_symbols_without_repeats_and_blanks(apply: Any, rows: list[list[int]]) -> None:
    out = apply(CTC, {"labels": {"symbols": SYMBOLS}}, x=np.stack([scores(*row) for row in rows]))
    expected = ["".join(SYMBOLS[symbol] for symbol, _ in groupby(row) if symbol) for row in rows]
    assert [text.decode() for text in out["text"]] == expected
    assert out["score"].tolist() == pytest.approx([0.85 if text else 0 for text in expected])


def test_the_blank_can_be_any_symbol(apply: Any) -> None:
    out = apply({**CTC, "blank": 3}, {"labels": {"symbols": SYMBOLS}}, x=scores(3, 0, 3, 0, 1)[np.newaxis])
    assert out["text"].tolist() == [b"--a"]


@pytest.mark.parametrize(
    ("table", "blank", "fault"),
    [
        ("other", 0, "no label table 'other'; known: symbols"),
        ("symbols", 4, "4 is outside of 0..3"),
    ],
)
def test_the_table_has_every_symbol(table: str, blank: int, fault: str) -> None:
    step = parse_step({**CTC, "labels": table, "blank": blank})
    scope = Scope(labels={"symbols": tuple(SYMBOLS)})
    assert [text for _, text in step.check(scope, {"x": Facts(width=4)})] == [fault]
    assert [text for _, text in parse_step(CTC).check(scope, {"x": Facts(width=5)})] == [
        "table 'symbols' has 4 labels for 5 classes"
    ]


def test_scores_of_another_number_of_symbols_are_refused(apply: Any) -> None:
    with pytest.raises(ContractViolation, match=r"ctc_decode: want \[n,t,4\], got FP32\[1,3,5\]"):
        apply(CTC, {"labels": {"symbols": SYMBOLS}}, x=np.zeros((1, 3, 5), F))
