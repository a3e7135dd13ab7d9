"""Faults that pydantic finds, in the words of this project: what is wanted, and what came.

Contracts, ServedModel documents and settings have one table of sentences, so that a fault reads the same in each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, core_schema

from triptych.errors import clipped

MAX_SHOWN: Final = 80  # characters of a wrong value

_OURS: Final = "Value error, "  # pydantic's prefix of a sentence that a validator here wrote
_PATTERN_WORDS: Final[dict[str, str]] = {}
_TAGS: Final = {  # of unions in contracts
    "'(value)'": "a value",
    "'(list)'": "a list",
    "'(parameter)'": "{parameter: NAME}",
    "'(whole)'": "a whole number",
    "'(number)'": "a number",
}
_WANTED: Final = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "iterable_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "path_type": "a path",
    "none_required": "no value",
}
_LIMITS: Final = {  # by the name of the limit in the context of the error
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}
_LENGTHS: Final = {
    "too_short": ("at least", "min_length", "item"),
    "too_long": ("at most", "max_length", "item"),
    "string_too_short": ("at least", "min_length", "character"),
    "string_too_long": ("at most", "max_length", "character"),
}


def in_words(pattern: str, words: str) -> str:
    """The pattern, for a field of pydantic. A text that does not match it is refused as `want <words>`."""
    _PATTERN_WORDS[pattern] = words
    return pattern


def pattern_words(pattern: str) -> str:
    """Words for a text that matches the pattern: those of `in_words`, else the pattern."""
    return _PATTERN_WORDS.get(pattern) or f"text that matches {pattern}"


def faults_of(error: ValidationError) -> list[ErrorDetails]:
    """The faults without consequences.

    A list is not also too short because a wrong item does not count. A default that depends on a wrong field is none.
    """
    faults = [each for each in error.errors(include_url=False) if each["type"] != "default_factory_not_called"]
    return [each for each in faults if each["type"] != "too_short" or not _is_around(each["loc"], faults)]


def _is_around(location: tuple[int | str, ...], faults: Sequence[ErrorDetails]) -> bool:
    return any(len(each["loc"]) > len(location) and each["loc"][: len(location)] == location for each in faults)


def sentence(fault: ErrorDetails, known_fields: Sequence[str] = ()) -> str:
    """The fault without its place: `want a whole number, got '32px'`. `known_fields` are those beside an unknown one.

    An error that a validator or a step has written keeps its sentence.
    """
    kind, message = fault["type"], fault["msg"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "unknown field" + (f"; known: {', '.join(sorted(known_fields))}" if known_fields else "")
    if kind in ("value_error", "assertion_error"):
        return message.removeprefix(_OURS).removeprefix("Assertion failed, ")
    if kind not in get_args(core_schema.ErrorType):
        return message
    return f"want {_wanted(kind, fault.get('ctx', {}))}, got {_got(kind, fault)}"


def _wanted(kind: str, context: Mapping[str, Any]) -> str:
    if kind in _WANTED:
        return _WANTED[kind]
    if kind in ("literal_error", "enum"):
        return str(context["expected"])
    if kind in _LIMITS:
        words, name = _LIMITS[kind]
        limit = context[name]
        return f"{words} {limit:g}" if isinstance(limit, float) else f"{words} {limit}"
    if kind in _LENGTHS:
        words, name, noun = _LENGTHS[kind]
        return f"{words} {context[name]} {noun}{'' if context[name] == 1 else 's'}"
    if kind == "string_pattern_mismatch":
        return pattern_words(context["pattern"])
    if kind == "union_tag_invalid":
        return " or ".join(_TAGS.get(tag, tag) for tag in str(context["expected_tags"]).split(", "))
    return f"another value ({kind.replace('_', ' ')})"


def _got(kind: str, fault: ErrorDetails) -> str:
    """The value that came, in the spelling of YAML, or its length."""
    value = fault["input"]
    if kind in ("too_short", "too_long"):
        length = fault.get("ctx", {}).get("actual_length")
        return "more" if length is None else str(length)
    if kind in ("string_too_short", "string_too_long"):
        return str(len(value))
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None or isinstance(value, bool):
        shown = {None: "null", True: "true", False: "false"}[value]
    else:
        shown = clipped(repr(str(value)) if isinstance(value, str) else str(value), MAX_SHOWN)
    quotes = "; in quotes it is text" if kind == "string_type" and value is not None else ""
    return f"{shown}{quotes}"


Resolve = Callable[[type[BaseModel], Any], type[BaseModel]]


def known_fields(
    model: type[BaseModel], location: Sequence[int | str], document: Any, resolve: Resolve = lambda model, _: model
) -> Sequence[str]:
    """Names of the fields that stand where `location` names an unknown one; empty where they are not known.

    `resolve` returns the model of a value that is a base class of many, by the value.
    """
    found: type[BaseModel] | None = model
    node = document
    for part in location[:-1]:
        node = node[part] if _has(node, part) else None
        if isinstance(part, str):
            fields = {field.alias or name: field for name, field in found.model_fields.items()} if found else {}
            found = next(_models(fields[part].annotation), None) if part in fields else None
    if found is None:
        return ()
    return [field.alias or name for name, field in resolve(found, node).model_fields.items()]


def _has(node: Any, part: int | str) -> bool:
    if isinstance(part, int):
        return isinstance(node, (list, tuple)) and part < len(node)
    return isinstance(node, Mapping) and part in node


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models in an annotation such as `tuple[InputSpec, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
