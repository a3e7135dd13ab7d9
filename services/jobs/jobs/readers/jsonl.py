"""JSON Lines: one object on each line, in UTF-8.

Types are those of the options, else those that the first bytes of the first file show. Python's own parser reads the
lines: that of pyarrow 26.0.1 ends the process at a file of the one line `null`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from jobs.readers.base import Reader, check_columns
from jobs.readers.errors import SourceError, SourceRefused, first_line
from jobs.readers.lines import BOM, Parsed, first_bytes, record_list, split_records
from jobs.readers.parts import FileRef, PartSpec, ReadBatch
from triptych.errors import clipped


class JsonlReader(Reader):
    """Reads JSON Lines by parts of whole lines. A field that a line lacks is null."""

    name: ClassVar[str] = "jsonl"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")
    has_types = False

    def schema(self, file: FileRef) -> Any:
        with self.sources.open(file) as stream:
            sample = first_bytes(file, stream, self.limits.sample_bytes).removeprefix(BOM)
            is_whole = not stream.read(1)
        lines = record_list(sample, quotes=False)
        lines = lines if is_whole or len(lines) == 1 else lines[:-1]
        if lines[0].lstrip()[:1] == b"[":
            raise SourceRefused(file.uri, "is a JSON list; want one object on each line", "line 1")
        return pa.schema(list(self._sampled(file, lines).items()))

    def parts(self, files: Sequence[FileRef]) -> Iterator[PartSpec]:
        for file in files:
            with self.sources.open(file) as stream:
                start = len(BOM) if first_bytes(file, stream, self.limits.sample_bytes).startswith(BOM) else 0
                for piece in split_records(file, stream, start, self.limits, quotes=False):
                    size_bytes, position = piece.stop - piece.start, [piece.start, piece.stop, piece.line]
                    yield PartSpec(self.name, (file,), position, piece.first_record, piece.records, size_bytes)

    def read(self, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
        start, stop, _ = part.position
        with self.sources.open(part.files[0]) as stream:
            stream.seek(start)
            data = stream.read(stop - start)
        if len(data) != stop - start:
            raise SourceError(part.files[0].uri, f"ends at byte {start + len(data)}, want {stop}")
        parsed = Parsed(lambda some: _table(some, schema), first_line, quotes=False)
        yield from parsed.batches(part, data, self.limits.batch_bytes, keep=self.options.keep_bad_rows)

    def _sampled(self, file: FileRef, lines: Sequence[bytes]) -> dict[str, Any]:
        """The types that the lines show, as many from the first as agree; broken lines show none.

        Raises `SourceRefused` for too many names, each of which is looked for in each line.
        """
        values = [value for line in lines if (value := _object_or_none(line)) is not None]
        names = dict.fromkeys(name for value in values for name in value)
        check_columns(file, len(names), self.limits)
        return {name: self.options.types.get(name) or _type_of([each.get(name) for each in values]) for name in names}


def _type_of(values: Sequence[Any]) -> Any:
    """The type of as many values from the first as agree. The line that differs is named when it is read."""
    for count in (len(values), *(1 << power for power in reversed(range(len(values).bit_length())))):
        try:
            kind = pa.array(values[:count]).type
        except (pa.ArrowException, ValueError, OverflowError):
            continue
        return pa.string() if pa.types.is_null(kind) else kind
    return pa.string()


def _object_or_none(line: bytes) -> dict[str, Any] | None:
    try:
        return _object(line)
    except pa.ArrowException:
        return None


def _object(line: bytes) -> dict[str, Any]:
    """The object of one line. Raises `ArrowInvalid`, as what makes columns of it does."""
    try:
        value = json.loads(line.strip().decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid(f"not UTF-8: byte 0x{line[error.start]:02x}") from None
    except json.JSONDecodeError as error:
        raise pa.ArrowInvalid(f"not JSON: {error.msg}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise pa.ArrowInvalid(f"not JSON: {first_line(error)}") from None
    if not isinstance(value, dict):
        raise pa.ArrowInvalid(f"want an object, got {clipped(json.dumps(value), 40)}")
    return value


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _table(data: bytes, schema: Any) -> Any:
    rows, columns = [_object(line) for line in record_list(data, quotes=False)], []
    for field in schema:
        try:
            columns.append(pa.array([row.get(field.name) for row in rows], field.type))
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise pa.ArrowInvalid(f"column '{field.name}': want {field.type}: {first_line(error)}") from None
    return pa.Table.from_arrays(columns, schema=schema)
