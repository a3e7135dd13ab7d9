"""A contract's YAML as plain values, and the line of each.

Reading happens twice. `quickly` (libyaml, 0.4 ms) gives the values of a document in which nothing is unusual, and None
for every other; `thoroughly` (ruamel.yaml, 7 ms) reads any, knows the line of each value and tells what is wrong. Both
mean the same by the same words: `quickly` asks ruamel.yaml what a word is. A test holds them against each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml._yaml import CParser
from yaml.error import YAMLError as LibyamlError
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from triptych.contract.errors import ContractError, Location, spell

MAX_DEPTH: Final = 32
# Tabs, directives, and what YAML 1.1 and 1.2 (or their libraries) take for the end of a line are left to the other one.
_UNUSUAL: Final = re.compile("[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]|^%", re.MULTILINE)
_TAG: Final = "tag:yaml.org,2002:"


class UnreadableYAML(YAMLError):
    """Failure of ruamel.yaml at a text that it did not foresee."""


@contextmanager
def yaml_faults() -> Iterator[None]:
    """Raises `YAMLError` for everything that ruamel.yaml raises at the text of a stranger, but for `RecursionError`.

    It raises ValueError for 2026-99-99, KeyError for `!!bool x`, IndexError for `!!int ''`, TypeError for a key that
    is a mapping of mappings.
    """
    try:
        yield
    except (YAMLError, RecursionError):
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise UnreadableYAML(f"cannot be read ({why}); put it in quotes, without a tag") from error


class _Unusual(Exception):
    """Something that only the other reader can judge."""


def quickly(data: bytes) -> dict[str, Any] | None:
    """The values of a document; None for one that is wrong, or in any way unusual."""
    try:
        text = data.decode()
        if _UNUSUAL.search(text):
            return None
        return _Quick(CParser(text)).read()
    except (_Unusual, LibyamlError, ValueError):
        return None


def first_fault(data: bytes) -> tuple[int, str]:
    """Line and sentence of what is no YAML to libyaml, for a document too large to be read thoroughly."""
    parser = CParser(data.decode())
    try:
        while parser.get_event() is not None:
            pass
    except LibyamlError as error:
        mark = getattr(error, "problem_mark", None)
        return (mark.line + 1 if mark else 1), f"not YAML: {getattr(error, 'problem', None) or 'cannot be read'}"
    return 1, "has more than plain mappings, lists and words: no tabs, anchors, tags, dates or keys given twice"


def thoroughly(data: bytes, file: str) -> tuple[Any, dict[Location, int]]:
    """The values of any document, and the line of each. Raises ContractError with `file`, line and field."""
    return _Thorough(file).read(data)


class _Quick:
    """Events of libyaml to plain values."""

    def __init__(self, parser: CParser) -> None:
        self._next: Callable[[], Event | None] = parser.get_event

    def read(self) -> dict[str, Any]:
        self._expect(StreamStartEvent)
        self._expect(DocumentStartEvent)
        start = self._next()
        if not isinstance(start, MappingStartEvent):
            raise _Unusual
        values = self._mapping(start, MAX_DEPTH)
        self._expect(DocumentEndEvent)
        self._expect(StreamEndEvent)
        return values

    def _expect(self, kind: type[Event]) -> None:
        if not isinstance(self._next(), kind):
            raise _Unusual

    def _value(self, event: Event | None, depth: int) -> Any:
        if isinstance(event, ScalarEvent):
            return _scalar(event)
        if isinstance(event, AliasEvent) or not depth:
            raise _Unusual
        return self._mapping(event, depth) if isinstance(event, MappingStartEvent) else self._sequence(event, depth)

    def _mapping(self, start: MappingStartEvent, depth: int) -> dict[str, Any]:
        _check_plain(start)
        values: dict[str, Any] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            key = _scalar(event) if isinstance(event, ScalarEvent) else None
            if not isinstance(key, str) or key in values:
                raise _Unusual
            values[key] = self._value(self._next(), depth - 1)
        return values

    def _sequence(self, start: Event | None, depth: int) -> list[Any]:
        if not isinstance(start, SequenceStartEvent):
            raise _Unusual
        _check_plain(start)
        values = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            values.append(self._value(event, depth - 1))
        return values


def _check_plain(start: MappingStartEvent | SequenceStartEvent) -> None:
    if start.tag is not None or start.anchor is not None:
        raise _Unusual


def _scalar(event: ScalarEvent) -> str | int | float | bool | None:
    if event.tag is not None or event.anchor is not None:
        raise _Unusual
    return _word(event.value) if event.implicit[0] else event.value


@lru_cache(maxsize=4096)
def _word(text: str) -> str | int | float | bool | None:
    """What a word without quotes is, in ruamel.yaml's reading of YAML 1.2."""
    node = ScalarNode(_RESOLVER.resolve(ScalarNode, text, (True, False)), text)
    construct = _WORDS.get(str(node.tag))
    if construct is None:  # a date, say
        raise _Unusual
    value: str | int | float | bool | None = construct(node)
    return value


_YAML: Final = YAML(typ="safe", pure=True)  # YAML 1.2: NO is a country, not `false`
_RESOLVER: Final = _YAML.resolver
_WORDS: Final[dict[str, Callable[[ScalarNode], Any]]] = {
    f"{_TAG}str": lambda node: node.value,
    f"{_TAG}int": _YAML.constructor.construct_yaml_int,
    f"{_TAG}float": _YAML.constructor.construct_yaml_float,
    f"{_TAG}bool": _YAML.constructor.construct_yaml_bool,
    f"{_TAG}null": _YAML.constructor.construct_yaml_null,
}


class _Thorough:
    """Nodes of ruamel.yaml to plain values and the line of each."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._yaml = YAML(typ="safe", pure=True)
        self._lines: dict[Location, int] = {}
        self._seen: set[int] = set()

    def read(self, data: bytes) -> tuple[Any, dict[Location, int]]:
        try:
            text = data.decode()
            with yaml_faults():
                root = self._yaml.compose(text)
            if not isinstance(root, MappingNode):
                raise ContractError([f"{self._file}:1: a contract is a mapping"])
            return self._plain(root, ()), self._lines
        except UnicodeDecodeError as error:
            fault = f"not UTF-8: {error.reason} at byte {error.start}"
            raise ContractError([f"{self._file}:1: {fault}"]) from None
        except RecursionError:
            raise ContractError([f"{self._file}:1: nested too deeply"]) from None
        except MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ContractError([f"{self._file}:{line}: not YAML: {error.problem}"]) from None
        except YAMLError as error:
            raise ContractError([f"{self._file}:1: not YAML: {str(error).splitlines()[0]}"]) from None

    def _plain(self, node: Node, where: Location) -> Any:
        self._lines.setdefault(where, node.start_mark.line + 1)
        if id(node) in self._seen:  # an alias: convenient to write, but it hides what a contract says
            raise self._fault(node, where, "YAML anchors and aliases are not allowed")
        self._seen.add(id(node))
        if isinstance(node, MappingNode):
            return self._mapping(node, where)
        if isinstance(node, SequenceNode):
            return [self._plain(item, (*where, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, where)

    def _mapping(self, node: MappingNode, where: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, where) if isinstance(key_node, ScalarNode) else None
            if not isinstance(key, str):
                raise self._fault(key_node, where, "keys are words; put others in quotes")
            if key in values:
                raise self._fault(key_node, (*where, key), "given twice")
            self._lines[(*where, key)] = key_node.start_mark.line + 1
            values[key] = self._plain(value_node, (*where, key))
        return values

    def _scalar(self, node: Node, where: Location) -> Any:
        try:
            with yaml_faults():
                value = self._yaml.constructor.construct_object(node)
        except UnreadableYAML as error:
            raise self._fault(node, where, str(error)) from error
        if value is not None and type(value) not in (str, int, float, bool):
            raise self._fault(node, where, f"put it in quotes: YAML reads it as {type(value).__name__}")
        return value

    def _fault(self, node: Node, where: Location, text: str) -> ContractError:
        field = f"{spell(where)}: " if where else ""
        return ContractError([f"{self._file}:{node.start_mark.line + 1}: {field}{text}"])
