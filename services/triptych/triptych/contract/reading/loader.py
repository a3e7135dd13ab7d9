"""Reads contract.yaml so that every fault is told with its file, line and field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from triptych.contract.errors import ContractError, Location, Problem, spell
from triptych.contract.reading.files import MAX_BYTES, FileError, decode, printable_path, read_bytes
from triptych.contract.reading.yaml_document import first_fault, quickly, thoroughly
from triptych.contract.schema.contract import Contract

MAX_THOROUGH_BYTES: Final = 64 << 10  # ruamel.yaml takes up to 4 s for so many: 67 s for 1 MiB (2026-11-28)
MAX_FAULTS: Final = 50  # of one contract


class Located(NamedTuple):
    """A contract, the file it came from, and what stands there."""

    contract: Contract
    file: str
    data: bytes
    identity: str  # `sha256:<hex>` of its values as they stand, the same whatever the comments and the order

    def tell(self, problems: Iterable[Problem]) -> Iterator[str]:
        """The problems as `file:line: field: problem`."""
        found = list(problems)
        has_lines = found and len(self.data) <= MAX_THOROUGH_BYTES
        return _tell(found, self.file, thoroughly(self.data, self.file)[1] if has_lines else {})


def load_contract(path: str | Path) -> Contract:
    """The contract in a file; ContractError lists every fault as `file:line: field: problem`."""
    return load_located(path).contract


def parse_contract(data: bytes, file: str = "contract.yaml") -> Contract:
    """The same from bytes in hand; `file` is only named in faults."""
    return _parse(data, file).contract


def load_located(path: str | Path, within: Path | None = None, most: int = MAX_BYTES) -> Located:
    """The contract in a file with what tells the line of every field, for checks that come later.

    `within` is the folder that the file has to lie in, after its links were followed.
    """
    try:
        return _parse(read_bytes(Path(path), within, most), printable_path(path))
    except FileError as error:
        raise ContractError([f"{printable_path(path)}:{error.line}: {error}"]) from None


def _parse(data: bytes, file: str) -> Located:
    if len(data) > MAX_BYTES:
        raise ContractError([f"{file}:1: larger than {MAX_BYTES} bytes"])
    try:
        data = decode(data).encode()
    except FileError as error:
        raise ContractError([f"{file}:{error.line}: {error}"]) from None
    document = quickly(data)
    if document is not None:
        with suppress(ValidationError):
            return Located(_contract(document), file, data, _identity(document))
    document, lines = _slowly(data, document, file)
    try:
        return Located(_contract(document), file, data, _identity(document))
    except ValidationError as error:
        raise ContractError(_tell(_problems(error), file, lines)) from None


def _slowly(data: bytes, document: Any, file: str) -> tuple[Any, dict[Location, int]]:
    """The values and the line of each; of a large document, which would take a minute, only the values.

    Raises `ContractError`.
    """
    if len(data) <= MAX_THOROUGH_BYTES:
        return thoroughly(data, file)
    if document is None:
        line, fault = first_fault(data)
        raise ContractError([f"{file}:{line}: {fault}; it is larger than {MAX_THOROUGH_BYTES} bytes"])
    return document, {}


def _identity(document: Any) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()}"


def _contract(document: Any) -> Contract:
    return Contract.model_validate_json(json.dumps(document))


def _problems(error: ValidationError) -> Iterator[Problem]:
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        where = tuple(part for part in fault["loc"] if not str(part).startswith("("))
        yield Problem(where, fault["msg"].removeprefix("Value error, "))


def _tell(problems: Iterable[Problem], file: str, lines: dict[Location, int]) -> Iterator[str]:
    found = list(problems)
    if len(found) > MAX_FAULTS:
        found[MAX_FAULTS:] = [Problem((), f"and {len(found) - MAX_FAULTS} more faults")]
    for where, text in found:
        field = f"{spell(where)}: " if where else ""
        yield f"{file}:{_line(where, lines)}: {field}{text}"


def _line(where: Location, lines: dict[Location, int]) -> int:
    """Line of the innermost part of the location that is in the document."""
    while where and where not in lines:
        where = where[:-1]
    return lines.get(where, 1)
