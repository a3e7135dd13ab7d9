"""Reader of a YAML document: plain values, and the line of each.

libyaml parses, through PyYAML's event interface. Words without quotes follow the Core schema of YAML 1.2, in which NO
is text and not `false`; numbers may also have underscores, or be binary. Aliases, keys given twice, merge keys, dates
without quotes, and characters that YAML's versions read differently are refused with their line.
docs/decisions/2026-11-29-one-yaml-reader.md has the alternatives.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from triptych.contract.errors import ContractError, Location, spell

MAX_DEPTH: Final = 32
MAX_BITS: Final = 1024  # of a whole number, as a float has; Python cannot write one of 14,000 as a text
Scalar = str | int | float | bool | None

_TAG: Final = "tag:yaml.org,2002:"
# Line ends to YAML 1.1 and to libyaml, text to YAML 1.2.
_AMBIGUOUS: Final = re.compile("[\x85\u2028\u2029]")
_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT: Final = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9_]+)")
_FLOAT: Final = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9_]+(?:[eE][-+][0-9]+)?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
_DATE: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?"
    r"(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?"
)
_BASES: Final = {"0b": 2, "0o": 8, "0x": 16}


class _NodeRefused(Exception):
    """Reason why a node is refused."""


def read_yaml(text: str, file: str, noun: str = "a contract") -> tuple[dict[str, Any], dict[Location, int]]:
    """Values of a document that is a mapping, and the line of each. Raises `ContractError` with `file` and line.

    `noun` names the document in the fault of one that is no mapping.
    """
    if found := _AMBIGUOUS.search(text):
        line, code = text.count("\n", 0, found.start()) + 1, f"{ord(found[0]):04x}"
        why = f"holds U+{code.upper()}, which YAML's versions read differently; write \\u{code} in double quotes"
        raise ContractError([f"{file}:{line}: {why}"])
    try:
        return _Reader(text, file, noun).read()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise ContractError([f"{file}:{line}: not YAML: {error.problem}"]) from None
    except yaml.YAMLError as error:
        position = getattr(error, "position", 0)
        line = text.encode().count(b"\n", 0, position) + 1
        raise ContractError([f"{file}:{line}: not YAML: {getattr(error, 'reason', 'cannot be read')}"]) from None


class _Reader:
    """Events to values, without recursion in C: a document may be nested at will."""

    def __init__(self, text: str, file: str, noun: str) -> None:
        self._next: Callable[[], Any] = yaml.CBaseLoader(text).get_event
        self._file, self._noun = file, noun
        self._lines: dict[Location, int] = {}

    def read(self) -> tuple[dict[str, Any], dict[Location, int]]:
        self._expect(StreamStartEvent)
        start: Any = self._next()
        root: Any = self._next() if type(start) is DocumentStartEvent else start
        if type(start) is DocumentStartEvent and start.version == (1, 1):
            raise ContractError([f"{self._file}:1: want YAML 1.2, got 1.1"])
        if type(root) is not MappingStartEvent:
            raise ContractError([f"{self._file}:1: {self._noun} is a mapping"])
        self._lines[()] = _line(root)
        values = self._mapping(root, (), MAX_DEPTH)
        self._expect(DocumentEndEvent)
        self._expect(StreamEndEvent)
        return values, self._lines

    def _expect(self, kind: type[Any]) -> None:
        event: Any = self._next()
        if not isinstance(event, kind):
            raise self._fault(event, (), "not YAML: want one document, got another")

    def _value(self, event: Any, where: Location, depth: int) -> Any:
        if type(event) is ScalarEvent:
            return self._scalar(event, where)
        if type(event) is AliasEvent:  # convenient to write, but it hides the contract's values
            raise self._fault(event, where, "YAML anchors and aliases are not allowed")
        if not depth:
            raise self._fault(event, (), "nested too deeply")
        if type(event) is MappingStartEvent:
            return self._mapping(event, where, depth)
        return self._sequence(event, where, depth)

    def _mapping(self, start: Any, where: Location, depth: int) -> dict[str, Any]:
        self._check_tag(start, where, "map")
        values: dict[str, Any] = {}
        while type(event := self._next()) is not MappingEndEvent:
            key = self._scalar(event, where) if type(event) is ScalarEvent else None
            if not isinstance(key, str):
                raise self._fault(event, where, "keys are words; put others in quotes")
            place = (*where, key)
            if key in values:
                raise self._fault(event, place, "given twice")
            self._lines[place] = _line(event)
            values[key] = self._value(self._next(), place, depth - 1)
        return values

    def _sequence(self, start: Any, where: Location, depth: int) -> list[Any]:
        self._check_tag(start, where, "seq")
        values: list[Any] = []
        while type(event := self._next()) is not SequenceEndEvent:
            place = (*where, len(values))
            self._lines[place] = _line(event)
            values.append(self._value(event, place, depth - 1))
        return values

    def _check_tag(self, start: Any, where: Location, kind: str) -> None:
        if start.tag not in (None, "!", _TAG + kind):
            raise self._fault(start, where, f"the tag {start.tag.replace(_TAG, '!!')} is not allowed")

    def _scalar(self, event: Any, where: Location) -> Scalar:
        tag, text = event.tag, event.value
        try:
            if tag is None:
                return _word(text) if event.implicit[0] else str(text)
            return str(text) if tag == "!" else _tagged(tag, text)
        except _NodeRefused as error:
            raise self._fault(event, where, str(error)) from None

    def _fault(self, event: Any, where: Location, text: str) -> ContractError:
        field = f"{spell(where)}: " if where else ""
        return ContractError([f"{self._file}:{_line(event)}: {field}{text}"])


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


@lru_cache(maxsize=4096)
def _word(text: str) -> Scalar:
    """Value of a word without quotes."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "0123456789+-.<=":
        return text
    if _FLOAT.fullmatch(text):
        return _float(text)
    if _INT.fullmatch(text):
        return _int(text)
    if _DATE.fullmatch(text):
        raise _NodeRefused("put it in quotes: YAML reads it as a date")
    if text in ("<<", "="):
        raise _NodeRefused("put it in quotes: YAML reads it as a merge key" if text == "<<" else "put it in quotes")
    return text


def _tagged(tag: str, text: str) -> Scalar:
    """Value of a scalar with a tag of the Core schema."""
    name = tag.removeprefix(_TAG)
    if name == "str":
        return text
    if name == "null" and _WORDS.get(text, 0) is None:
        return None
    if name == "bool" and isinstance(_WORDS.get(text), bool):
        return _WORDS[text]
    if name == "int":
        return _int(text)
    if name == "float":
        return _float(text)
    raise _NodeRefused(f"the tag {tag.replace(_TAG, '!!')} is not allowed here; put it in quotes, without a tag")


def _int(text: str) -> int:
    sign, digits = _signed(text)
    base = _BASES.get(digits[:2], 10)
    try:
        value = sign * int(digits if base == 10 else digits[2:], base)
    except ValueError as error:  # no digits but underscores, or too many
        raise _NodeRefused(f"cannot be read ({error}); put it in quotes, without a tag") from None
    if value.bit_length() > MAX_BITS:
        raise _NodeRefused(f"cannot be read (a number of {value.bit_length()} bits, over {MAX_BITS})")
    return value


def _float(text: str) -> float:
    sign, digits = _signed(text.lower())
    try:
        return sign * float(digits.removeprefix(".") if digits in (".inf", ".nan") else digits)
    except ValueError as error:
        raise _NodeRefused(f"cannot be read ({error}); put it in quotes, without a tag") from None


def _signed(text: str) -> tuple[int, str]:
    digits = text.replace("_", "")
    return (-1, digits[1:]) if digits[:1] == "-" else (1, digits.removeprefix("+"))
