"""Sentences about faults: no words of pydantic reach whoever writes a contract, a document or a setting."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from triptych.runtime.faults import faults_of, in_words, known_fields, sentence

# Values for the placeholders in pydantic's own sentences; a type that takes others has its row in `CONTEXTS`.
CONTEXTS: dict[str, dict[str, Any]] = {
    "literal_error": {"expected": "'a' or 'b'"},
    "enum": {"expected": "'a' or 'b'"},
    "greater_than": {"gt": 1},
    "greater_than_equal": {"ge": 1},
    "less_than": {"lt": 1},
    "less_than_equal": {"le": 1},
    "multiple_of": {"multiple_of": 2},
    "too_short": {"field_type": "Tuple", "min_length": 1, "actual_length": 0},
    "too_long": {"field_type": "Tuple", "max_length": 3, "actual_length": 4},
    "string_too_short": {"min_length": 1},
    "string_too_long": {"max_length": 3},
    "string_pattern_mismatch": {"pattern": "^a$"},
    "value_error": {"error": "ours"},
    "assertion_error": {"error": "ours"},
    "union_tag_invalid": {"discriminator": "f()", "tag": "(x)", "expected_tags": "'(value)', '(parameter)'"},
    "union_tag_not_found": {"discriminator": "f()"},
}
# Words with which pydantic's sentences begin or that only it has.
PYDANTICS = ("Input", "should", "Field required", "String", "Tuple", "Extra", "Unable", "Value error", "a valid")


def faults(annotation: Any, value: Any, *, strict: bool) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(annotation).validate_python(value, strict=strict)
    return [sentence(fault) for fault in caught.value.errors(include_url=False)]


@pytest.mark.parametrize("kind", get_args(core_schema.ErrorType))
def test_no_type_of_error_has_pydantics_words(kind: str) -> None:
    context = CONTEXTS.get(kind, {})
    fault: Any = {"type": kind, "loc": ("x",), "msg": "Input should be what pydantic says", "input": "abc"}
    if kind in ("value_error", "assertion_error"):
        fault["msg"] = {"value_error": "Value error, ours", "assertion_error": "Assertion failed, ours"}[kind]
        assert sentence(fault) == "ours"
        return
    if context:
        fault["ctx"] = context
    text = sentence(fault)
    assert not [word for word in PYDANTICS if word in text], text
    assert text.startswith(("want ", "is missing", "unknown field"))


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (int, "32px", "want a whole number, got '32px'"),
        (int, 1.5, "want a whole number, got 1.5"),
        (float, [1], "want a number, got a list"),
        (bool, "maybe", "want true or false, got 'maybe'"),
        (str, 33, "want text, got 33; in quotes it is text"),
        (str, True, "want text, got true; in quotes it is text"),
        (str, None, "want text, got null"),
        (str, {}, "want text, got a mapping"),
        (Literal["png", "jpeg"], "gif", "want 'png' or 'jpeg', got 'gif'"),
        (Annotated[int, Field(ge=1)], 0, "want at least 1, got 0"),
        (Annotated[int, Field(lt=10)], 10, "want less than 10, got 10"),
        (Annotated[tuple[int, ...], Field(min_length=1)], (), "want at least 1 item, got 0"),
        (Annotated[tuple[int, ...], Field(max_length=2)], (1, 2, 3), "want at most 2 items, got 3"),
        (Annotated[str, Field(max_length=2)], "abc", "want at most 2 characters, got 3"),
        (Annotated[str, Field(pattern="^a+$")], "b", "want text that matches ^a+$, got 'b'"),
        (Annotated[str, Field(pattern=in_words("^c+$", "some c"))], "b", "want some c, got 'b'"),
        (int, "x" * 1000, f"want a whole number, got '{'x' * 79}... (1002 characters)"),
    ],
)
def test_a_fault_says_what_is_wanted_and_what_came(annotation: Any, value: Any, text: str) -> None:
    assert faults(annotation, value, strict=not isinstance(value, tuple)) == [text]


def test_a_list_is_not_also_too_short_because_an_item_is_wrong() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Annotated[tuple[int, ...], Field(min_length=1)]).validate_python(("a",))
    assert caught.value.error_count() == 2
    assert [sentence(fault) for fault in faults_of(caught.value)] == ["want a whole number, got 'a'"]


def test_a_sentence_of_our_own_stays() -> None:
    own = PydanticCustomError("step", "unknown step '{name}'", {"name": "crob"})
    errors: Any = [{"type": own, "loc": ("op",), "input": None}]
    (fault,) = ValidationError.from_exception_data("Step", errors).errors()
    assert sentence(fault) == "unknown step 'crob'"


class Share(BaseModel):
    version: int
    percent: int


class Spec(BaseModel):
    traffic: tuple[Share, ...] | None = None
    labels: dict[str, str] = {}


class Root(BaseModel):
    api_version: Annotated[str, Field(alias="apiVersion")] = ""
    spec: Spec | None = None


@pytest.mark.parametrize(
    ("location", "names"),
    [
        (("x",), ["apiVersion", "spec"]),
        (("spec", "x"), ["traffic", "labels"]),
        (("spec", "traffic", 0, "x"), ["version", "percent"]),
        (("spec", "labels", "a", "x"), []),
        (("nothing", "x"), []),
    ],
)
def test_an_unknown_field_is_told_those_beside_it(location: tuple[int | str, ...], names: list[str]) -> None:
    assert list(known_fields(Root, location, {"spec": {"traffic": [{}]}})) == names
