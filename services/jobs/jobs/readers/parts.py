"""A part: what one worker reads, asks and commits at once. It travels as JSON through the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class FileRef:
    """One file as it was planned. `stamp` changes with its content: the etag, else size, time and inode."""

    uri: str
    size_bytes: int
    stamp: str


@dataclass(frozen=True, slots=True)
class PartSpec:
    """Place of a part: rows of one file, or some whole files.

    `position` is plain JSON that only the reader understands. `first_row` counts from 0 in the file; `rows` is None
    where the plan could not know it. `size_bytes` is the unpacked size, or its best estimate.
    """

    format: str
    files: tuple[FileRef, ...]
    position: Sequence[Any]
    first_row: int
    rows: int | None
    size_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Plain values for the ledger."""
        return {
            "format": self.format,
            "files": [[file.uri, file.size_bytes, file.stamp] for file in self.files],
            "position": list(self.position),
            "first_row": self.first_row,
            "rows": self.rows,
            "size_bytes": self.size_bytes,
        }

    def as_text(self) -> str:
        """The same as text, equal for equal parts."""
        return json.dumps(self.as_json(), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> PartSpec:
        """The part of `as_text`."""
        return cls.from_json(json.loads(text))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PartSpec:
        """The part of `as_json`."""
        files = tuple(FileRef(*file) for file in values["files"])
        return cls(**{**values, "files": files})


class BadRow(NamedTuple):
    """A row that cannot be asked. `row` counts from 0 in the part."""

    row: int
    code: str
    sentence: str


class ReadBatch(NamedTuple):
    """A record batch of a part; `rows` has the place in the part of each of its rows, and `bad` those left out."""

    batch: Any  # pyarrow.RecordBatch
    rows: Sequence[int]
    bad: Sequence[BadRow] = ()
