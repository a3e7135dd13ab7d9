"""Counts of a version's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from triptych.contract import Contract, Plan
from triptych.datatypes import Array


def words(*rows: list[bytes]) -> Array:
    array = np.empty((len(rows), len(rows[0])), np.object_)
    array[:] = rows
    return array


def faults(document: dict[str, Any]) -> str:
    with pytest.raises(ValueError, match="observe") as caught:
        Contract.model_validate(document)
    return str(caught.value)


def observing(document: dict[str, Any], **observe: Any) -> Plan:
    return Plan(Contract.model_validate({**document, "observe": observe}))


def test_the_likeliest_word_of_each_row_counts(digits_document: dict[str, Any]) -> None:
    plan = observing(digits_document, output="label", labels="digit")
    answer = {"label": words([b"eins", b"zwei"], [b"eins", b"drei"], [b"vier", b"eins"], [b"elf", b"eins"])}
    assert plan.observed(answer) == {"eins": 2, "vier": 1, "other": 1}


def test_a_class_counts_as_its_word(digits_document: dict[str, Any]) -> None:
    plan = observing(digits_document, output="class_id", labels="digit")
    assert plan.observed({"class_id": np.array([[3, 1], [3, 0], [11, 3]], np.int32)}) == {"drei": 2, "other": 1}


def test_numbers_count_by_bucket_with_its_limit_included(sales_document: dict[str, Any]) -> None:
    plan = observing(sales_document, output="total", buckets=[10, 100])
    totals = np.array([9, 10, 11, 100, 101], np.int64)
    assert plan.observed({"total": totals}) == {"10": 2, "100": 2, "+Inf": 1}


def test_a_contract_that_observes_nothing_counts_nothing_and_is_spelt_as_before(digits: Contract) -> None:
    assert Plan(digits).observed({"label": words([b"eins"])}) == {}
    assert b"observe" not in digits.canonical_json()


@pytest.mark.parametrize(
    ("observe", "text"),
    [
        ({"output": "label"}, "want either labels or buckets"),
        ({"output": "label", "labels": "digit", "buckets": [1]}, "want either labels or buckets"),
        ({"output": "nothing", "labels": "digit"}, "no output 'nothing'; there are: class_id, label, score"),
        ({"output": "label", "labels": "letter"}, "no label table 'letter'; known: digit"),
        ({"output": "label", "buckets": [1]}, "limits need a numeric output, not BYTES"),
        ({"output": "score", "labels": "digit"}, "words need an output of BYTES or whole numbers, not FP32"),
        ({"output": "score", "buckets": [2, 1]}, "limits must rise"),
        ({"output": "score", "buckets": []}, "at least 1 item"),
    ],
)
def test_what_cannot_be_counted_is_refused(digits_document: dict[str, Any], observe: Any, text: str) -> None:
    assert text in faults({**digits_document, "observe": observe})


def test_more_words_than_a_metric_should_have_are_refused(digits_document: dict[str, Any]) -> None:
    digits_document["labels"]["digit"] = [str(number) for number in range(65)]
    found = faults({**digits_document, "observe": {"output": "label", "labels": "digit"}})
    assert "want at most 64 words to count, table 'digit' has 65" in found
