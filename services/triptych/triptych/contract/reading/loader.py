"""Loader of contract.yaml. Every fault has its file, line and field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ValidationError

from triptych.contract.errors import ContractError, Location, Problem, spell
from triptych.contract.reading.files import MAX_BYTES, FileError, decode, printable_path, read_bytes
from triptych.contract.reading.yaml_reader import read_yaml
from triptych.contract.schema.contract import Contract
from triptych.contract.steps.base import Step
from triptych.contract.steps.registry import vocabulary
from triptych.runtime.faults import faults_of, known_fields, sentence

MAX_FAULTS: Final = 50  # of one contract


class LocatedContract(NamedTuple):
    """A contract with its file, its identity, and the line of each field."""

    contract: Contract
    file: str
    identity: str  # `sha256:<hex>` of its values, independent of comments and order
    field_lines: Mapping[Location, int]

    def lines_of(self, problems: Iterable[Problem]) -> Iterator[str]:
        """The problems as `file:line: field: problem`."""
        return _located(problems, self.file, self.field_lines)


def load_contract(path: str | Path) -> Contract:
    """The contract in a file. ContractError lists every fault as `file:line: field: problem`."""
    return load_located(path).contract


def parse_contract(data: bytes, file: str = "contract.yaml") -> Contract:
    """The contract in bytes. `file` is only named in faults."""
    return _parse(data, file).contract


def load_located(path: str | Path, within: Path | None = None, most: int = MAX_BYTES) -> LocatedContract:
    """The contract in a file with the lines of its fields, for later checks.

    `within` is the folder that the file has to lie in, after links were resolved.
    """
    try:
        return _parse(read_bytes(Path(path), within, most), printable_path(path))
    except FileError as error:
        raise ContractError([f"{printable_path(path)}:{error.line}: {error}"]) from None


def _parse(data: bytes, file: str) -> LocatedContract:
    if len(data) > MAX_BYTES:
        raise ContractError([f"{file}:1: larger than {MAX_BYTES} bytes"])
    try:
        text = decode(data)
    except FileError as error:
        raise ContractError([f"{file}:{error.line}: {error}"]) from None
    document, lines = read_yaml(text, file)
    try:
        return LocatedContract(_contract(document), file, _identity(document), lines)
    except ValidationError as error:
        raise ContractError(_located(_problems(error, document), file, lines)) from None


def _identity(document: Any) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()}"


def _contract(document: Any) -> Contract:
    return Contract.model_validate_json(json.dumps(document))


def _problems(error: ValidationError, document: Any) -> Iterator[Problem]:
    for fault in faults_of(error):
        where = tuple(part for part in fault["loc"] if not str(part).startswith("("))
        is_unknown = fault["type"] == "extra_forbidden"
        known = known_fields(Contract, where, document, _step_of) if is_unknown else ()
        yield Problem(where, sentence(fault, known))


def _step_of(model: type[BaseModel], value: Any) -> type[BaseModel]:
    """The step that a value names by its `op`; any other model stays."""
    op = value.get("op") if model is Step and isinstance(value, dict) else None
    return vocabulary().get(op, model) if isinstance(op, str) else model


def _located(problems: Iterable[Problem], file: str, lines: Mapping[Location, int]) -> Iterator[str]:
    found = list(problems)
    if len(found) > MAX_FAULTS:
        found[MAX_FAULTS:] = [Problem((), f"and {len(found) - MAX_FAULTS} more faults")]
    for where, text in found:
        field = f"{spell(where)}: " if where else ""
        yield f"{file}:{_line(where, lines)}: {field}{text}"


def _line(where: Location, lines: Mapping[Location, int]) -> int:
    """Line of the innermost part of a location that is in the document."""
    while where and where not in lines:
        where = where[:-1]
    return lines.get(where, 1)
