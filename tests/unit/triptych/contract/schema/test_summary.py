"""The section `summary` of a contract."""

from __future__ import annotations

from typing import Any

import pytest

from triptych.contract import Contract
from triptych.protocol.metadata import caller_side, config_of, info_of


def test_a_contract_without_a_summary_is_spelt_as_before(digits: Contract) -> None:
    assert b"summary" not in digits.canonical_json()


def test_the_summary_is_in_the_configuration_of_a_version(sales_document: dict[str, Any]) -> None:
    contract = Contract.model_validate({**sales_document, "summary": {"total": "sum", "units": "mean"}})
    info = caller_side(contract, "sales", ["1"], version="1")
    assert info_of(config_of("sales", info)).summary == {"total": "sum", "units": "mean"}
    assert info_of(config_of("sales", caller_side(contract, "sales", ["1"]))).max_rows == contract.max_rows


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        ({"nothing": "sum"}, "no output 'nothing'; there are: class_id, label, score"),
        ({"label": "sum"}, "sum needs a numeric output, not BYTES"),
        ({"score": "vote"}, "vote needs words, whole numbers or booleans, not FP32"),
        ({"score": "mean"}, "mean needs at most 64 values a row, a fixed number"),
        ({"label": "median"}, "Input should be 'mean', 'max', 'min', 'sum', 'count' or 'vote'"),
        ({}, "at least 1 item"),
    ],
)
def test_what_cannot_be_summarised_is_refused(digits_document: dict[str, Any], summary: Any, text: str) -> None:
    with pytest.raises(ValueError, match="summary") as caught:
        Contract.model_validate({**digits_document, "summary": summary})
    assert text in str(caught.value)


def test_words_votes_and_counts_may_have_an_open_size(digits_document: dict[str, Any]) -> None:
    summary = {"label": "vote", "class_id": "vote", "score": "count"}
    assert Contract.model_validate({**digits_document, "summary": summary}).summary == summary
