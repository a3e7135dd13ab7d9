"""Words of a file beside the contract, for `label` and `ctc_decode`: the same as those of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from triptych.contract import Environment, Scope, StepFile
from triptych.contract.steps.registry import parse_step
from triptych.contract.steps.step_file import MAX_WORDS, word_count, words_of
from triptych.errors import ContractViolation

WORDS = ("a", "b", " ", "日", "")


def run(step: dict[str, Any], value: Any, file: bytes = b"", labels: tuple[str, ...] = ()) -> Any:
    env = Environment({"x": value}, len(value), {})
    scope = Scope(labels={"table": labels}, files={"words.txt": StepFile.of(file)})
    parse_step({"input": "x", **step}).compile(scope)(env)
    return env["x"]


def file_of(words: tuple[str, ...]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=6))
def test_labels_of_a_file_are_those_of_the_same_table(ids: list[int]) -> None:
    value = np.array(ids, np.int32)
    got = run({"op": "label", "file": "words.txt", "none": "nothing"}, value, file_of(WORDS))
    want = run({"op": "label", "labels": "table", "none": "nothing"}, value, labels=WORDS)
    assert got.tolist() == want.tolist()


@given(st.integers(0, 5), st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_a_vocabulary_without_the_blank_reads_as_a_table_with_it(blank: int, path: list[int]) -> None:
    """Recognition models come with a list of their characters, and the blank stands before or behind them."""
    scores = np.eye(6, dtype=np.float32)[path][np.newaxis]
    table = (*WORDS[:blank], "BLANK", *WORDS[blank:])
    got = run({"op": "ctc_decode", "file": "words.txt", "blank": blank}, scores, file_of(WORDS))
    want = run({"op": "ctc_decode", "labels": "table", "blank": blank}, scores, labels=table)
    assert got.tolist() == want.tolist()
    assert "BLANK" not in got[0].decode()


def test_a_vocabulary_of_another_size_than_the_scores_is_refused() -> None:
    scores = np.zeros((1, 2, 5), np.float32)
    with pytest.raises(ContractViolation, match=r"ctc_decode: want \[n,t,6\], got FP32\[1,2,5\]"):
        run({"op": "ctc_decode", "file": "words.txt"}, scores, file_of(WORDS))
    with pytest.raises(ContractViolation, match="words.txt: blank: 6 is outside of 0..5"):
        run({"op": "ctc_decode", "file": "words.txt", "blank": 6}, scores, file_of(WORDS))
    with pytest.raises(ContractViolation, match=r"label: 'x' has an id outside 0..4"):
        run({"op": "label", "file": "words.txt"}, np.array([5]), file_of(WORDS))


@pytest.mark.parametrize("op", ["label", "ctc_decode"])
@pytest.mark.parametrize("more", [{}, {"labels": "table", "file": "words.txt"}])
def test_words_come_from_one_place(op: str, more: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="give labels or file"):
        parse_step({"op": op, "input": "x", **more})


def test_a_vocabulary_has_a_limit_of_words() -> None:
    most = b"\n" * MAX_WORDS
    assert len(words_of("words.txt", StepFile.of(most))) == MAX_WORDS
    with pytest.raises(ContractViolation, match=f"words.txt: want at most {MAX_WORDS} words, got {MAX_WORDS + 1}"):
        words_of("words.txt", StepFile.of(most + b"\n"))


@pytest.mark.parametrize("first", ["[PAD]", "{a"])
def test_words_count_in_a_vocabulary_that_begins_as_json_does(first: str) -> None:
    """Eight lists of a million words each were taken for JSON, and took 2 GiB in a stage."""
    assert word_count("words.txt", f"{first}\nb\n".encode()) == 2
    assert word_count("tokenizer.json", b'[\n"b"\n]\n') == 0
