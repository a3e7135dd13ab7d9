"""Reads contract.yaml so that every fault is told with its file, line and field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from triptych.contract.errors import ContractError, Location, Problem, spell
from triptych.contract.schema import Contract

MAX_BYTES: Final = 1 << 20


class Located(NamedTuple):
    """A contract, the file it came from, and the line of every field in it."""

    contract: Contract
    file: str
    lines: dict[Location, int]

    def tell(self, problems: Iterable[Problem]) -> Iterator[str]:
        """The problems as `file:line: field: problem`."""
        return _tell(problems, self.file, self.lines)


def load_contract(path: str | Path) -> Contract:
    """The contract in a file; ContractError lists every fault as `file:line: field: problem`."""
    return load_located(path).contract


def parse_contract(data: bytes, file: str = "contract.yaml") -> Contract:
    """The same from bytes in hand; `file` is only named in faults."""
    return _parse(data, file).contract


def load_located(path: str | Path) -> Located:
    """The contract in a file with the line of every field, for checks that come later."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ContractError([f"{path}:1: cannot be read: {error.strerror}"]) from error
    return _parse(data, str(path))


def _parse(data: bytes, file: str) -> Located:
    if len(data) > MAX_BYTES:
        raise ContractError([f"{file}:1: larger than {MAX_BYTES} bytes"])
    document, lines = _Reader(file).read(data)
    try:
        return Located(Contract.model_validate_json(json.dumps(document)), file, lines)
    except ValidationError as error:
        raise ContractError(_tell(_problems(error), file, lines)) from None


def _problems(error: ValidationError) -> Iterator[Problem]:
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        where = tuple(part for part in fault["loc"] if not str(part).startswith("("))
        yield Problem(where, fault["msg"].removeprefix("Value error, "))


def _tell(problems: Iterable[Problem], file: str, lines: dict[Location, int]) -> Iterator[str]:
    for where, text in problems:
        field = f"{spell(where)}: " if where else ""
        yield f"{file}:{_line(where, lines)}: {field}{text}"


def _line(where: Location, lines: dict[Location, int]) -> int:
    """Line of the innermost part of the location that is in the document."""
    while where and where not in lines:
        where = where[:-1]
    return lines.get(where, 1)


class _Reader:
    """One YAML document to plain values and the line of each."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._yaml = YAML(typ="safe", pure=True)  # YAML 1.2: NO is a country, not `false`
        self._lines: dict[Location, int] = {}
        self._seen: set[int] = set()

    def read(self, data: bytes) -> tuple[Any, dict[Location, int]]:
        try:
            root = self._yaml.compose(data.decode())
            if not isinstance(root, MappingNode):
                raise ContractError([f"{self._file}:1: a contract is a mapping"])
            return self._plain(root, ()), self._lines
        except UnicodeDecodeError as error:
            text = f"not UTF-8: {error.reason} at byte {error.start}"
            raise ContractError([f"{self._file}:1: {text}"]) from None
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
        value = self._yaml.constructor.construct_object(node)
        if value is not None and type(value) not in (str, int, float, bool):
            raise self._fault(node, where, f"put it in quotes: YAML reads it as {type(value).__name__}")
        return value

    def _fault(self, node: Node, where: Location, text: str) -> ContractError:
        field = f"{spell(where)}: " if where else ""
        return ContractError([f"{self._file}:{node.start_mark.line + 1}: {field}{text}"])
