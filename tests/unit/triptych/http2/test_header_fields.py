"""Header fields as text."""

from __future__ import annotations

from triptych.http2.framing import HeaderFields

FIELDS = HeaderFields({b"traceparent": b"00-a", b"odd": b"\xe9", b"key-bin": b"\0"})


def test_fields_are_text_and_binary_ones_are_left_out() -> None:
    assert dict(FIELDS) == {"traceparent": "00-a", "odd": "é"}
    assert len(FIELDS) == 2
    assert FIELDS["odd"] == "é"


def test_a_field_that_is_not_there_has_the_default() -> None:
    assert FIELDS.get("key-bin") is None
    assert FIELDS.get("none", "x") == "x"
    assert "key-bin" not in FIELDS
    assert "ключ" not in FIELDS


def test_the_fields_of_a_call_without_any_are_false() -> None:
    assert not HeaderFields({})
