"""Errors and their gRPC status."""

from collections.abc import Iterator
from math import inf

import grpc
import pytest

from triptych import errors
from triptych.protocol.status import (
    CODES,
    INTERNAL_TEXT,
    MAX_TEXT_BYTES,
    RETRY_AFTER,
    Relayed,
    pushback_s,
    retry_after_of,
    status_of,
)


def subclasses(cls: type[errors.TriptychError]) -> list[type[errors.TriptychError]]:
    below = [found for child in cls.__subclasses__() for found in subclasses(child)]
    return [cls, *below]


@pytest.mark.parametrize("cls", [c for c in subclasses(errors.TriptychError)[1:] if c is not Relayed])
def test_every_error_has_a_row(cls: type[errors.TriptychError]) -> None:
    assert cls in CODES


def test_no_row_says_unknown() -> None:
    assert grpc.StatusCode.UNKNOWN not in CODES.values()


def test_a_callers_fault_reaches_the_caller_in_words() -> None:
    error = errors.InvalidInput("history", "FP32[n,28]", "FP64[3,27]")
    assert status_of(error) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "input 'history': want FP32[n,28], got FP64[3,27]",
    )


@pytest.mark.parametrize("error", [ValueError("secret"), errors.Internal("secret"), errors.ContractViolation("secret")])
def test_an_internal_error_reveals_no_detail_to_the_caller(error: Exception) -> None:
    assert status_of(error) == (grpc.StatusCode.INTERNAL, INTERNAL_TEXT)


def test_the_id_of_a_request_ends_the_sentence_and_is_never_cut_off() -> None:
    assert status_of(errors.UnknownModel("x"), "r-1")[1] == "unknown model or family 'x' (request r-1)"
    _, text = status_of(Relayed(grpc.StatusCode.NOT_FOUND, "é" * 5000), "ü" * 5000)
    assert len(text.encode()) <= MAX_TEXT_BYTES + 3
    assert text.endswith(f"... (request {'ü' * 128}... (5000 characters))")
    assert status_of(ValueError(), "r-1")[1] == f"{INTERNAL_TEXT} (request r-1)"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such file"), "internal error: ValueError: no such file"),
        (errors.ContractViolation("want 3 rows"), "internal error: want 3 rows"),
        (errors.UnknownModel("x"), "unknown model or family 'x'"),
    ],
)
def test_the_cause_of_an_internal_error_is_shown_where_that_is_asked_for(error: Exception, text: str) -> None:
    assert status_of(error, "r-1", shows_cause=True)[1] == f"{text} (request r-1)"
    assert len(status_of(ValueError("é" * 5000), shows_cause=True)[1].encode()) <= MAX_TEXT_BYTES + 3


def test_a_relayed_error_keeps_code_and_sentence() -> None:
    assert status_of(Relayed(grpc.StatusCode.NOT_FOUND, "no such")) == (grpc.StatusCode.NOT_FOUND, "no such")


def test_a_long_list_of_known_names_is_cut() -> None:
    text = str(errors.UnknownModel("x", [f"model_{number:02}" for number in range(48)]))
    assert "model_00" in text
    assert "48 in all" in text
    assert "model_40" not in text


def test_a_model_with_the_name_of_its_family_is_known_once() -> None:
    assert str(errors.UnknownModel("x", {"churn"}, {"churn"})).endswith("; known: churn")


def test_of_a_hundred_thousand_known_names_only_some_are_read() -> None:
    """Otherwise each wrong request would cost milliseconds."""
    read: list[str] = []

    class Models(dict[str, int]):
        def __iter__(self) -> Iterator[str]:
            for name in super().__iter__():
                read.append(name)
                yield name

    text = str(errors.UnknownModel("x", {"family": 1}, Models.fromkeys((f"m{at:06}" for at in range(100_000)), 1)))
    assert text.endswith(
        "known: family, m000000, m000001, m000002, m000003, m000004, m000005, m000006, ... (100001 in all)"
    )
    assert len(read) < 1_000


@pytest.mark.parametrize(
    ("text", "after_s", "hint_s"),
    [
        ("1500", 1.5, 1.5),
        ("0", 0.0, 0.0),
        ("-1", inf, 0.0),
        ("soon", inf, 0.0),
        ("9" * 5000, inf, 0.0),
        ("", None, 0.0),
    ],
)
def test_a_pushback_that_is_no_number_says_never_and_is_no_hint(
    text: str, after_s: float | None, hint_s: float
) -> None:
    assert pushback_s({RETRY_AFTER: text}) == after_s
    assert retry_after_of({RETRY_AFTER: text}) == hint_s


def test_no_pushback_is_no_hint() -> None:
    assert pushback_s({}) is None
    assert retry_after_of({}) == 0.0
