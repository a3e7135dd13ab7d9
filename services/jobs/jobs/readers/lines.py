"""Records of text files that end with a line break: their borders are found without parsing.

A file is read once to plan it, in blocks: a format of lines has no footer. A quoted field of CSV may hold line breaks,
so a border is one behind an even number of quotes; the quote that CSV doubles within a field counts twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa

from jobs.readers.base import batches_of
from jobs.readers.errors import SourceError, SourceRefused
from jobs.readers.limits import ReadLimits
from jobs.readers.parts import BadRow, FileRef, PartSpec, ReadBatch

BLOCK_BYTES = 1 << 20
_EMPTY_LINE = re.compile(rb"(?:\A|\n)[ \t]*\r?(?:\n|\Z)")
BOM = b"\xef\xbb\xbf"
WIDE = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"PAR1": "Parquet"}


@dataclass(frozen=True, slots=True)
class Records:
    """Whole records from `start` to `stop`, in bytes of the file; `line` is the first line, from 1."""

    start: int
    stop: int
    first_record: int
    records: int
    line: int


def first_bytes(file: FileRef, stream: IO[bytes], most: int) -> bytes:
    """The start of a text file, with its byte-order mark. Raises `SourceRefused` for what is no UTF-8 text."""
    stream.seek(0)
    data = stream.read(most)
    if not data.removeprefix(BOM).strip():
        raise SourceRefused(file.uri, "is empty")
    if data.startswith(WIDE):
        raise SourceRefused(file.uri, "is UTF-16 or UTF-32; save it as UTF-8", "line 1")
    for magic, name in PACKED.items():
        if data.startswith(magic):
            raise SourceRefused(file.uri, f"is {name}, no text; unpack it, or say its format in read.format")
    if len(data) == most < file.size_bytes and b"\n" not in data:
        raise SourceRefused(file.uri, f"over {most} bytes without an end (limits.sampleBytes)", "line 1")
    return data


def split_records(
    file: FileRef, stream: IO[bytes], start: int, limits: ReadLimits, *, quotes: bool, line: int = 1
) -> Iterator[Records]:
    """The records behind `start` in pieces of at most about a part. Empty lines at the end are none.

    Raises `SourceRefused` for a record over the limit and a quote without its end.
    """
    scan = _Scan(file, start, line, limits, quotes)
    stream.seek(start)
    while block := stream.read(BLOCK_BYTES):
        yield from scan.feed(block)
    yield from scan.end()


class _Scan:
    """State of one pass. `_at` is the byte behind what was scanned, `_border` the one behind the last record."""

    def __init__(self, file: FileRef, start: int, line: int, limits: ReadLimits, quotes: bool) -> None:
        self._file, self._limits, self._quotes = file, limits, quotes
        self._at = self._border = self._part = start
        self._in_quotes = False
        self._line = self._part_line = self._border_line = line
        self._records = self._part_records = 0  # up to the border; up to the part's start
        self._filled = start  # behind the last record that is not an empty line
        self._filled_records, self._filled_line = 0, line

    def feed(self, block: bytes) -> Iterator[Records]:
        """Scan a block. Yields a part as soon as it is full."""
        at = 0
        while at < len(block):
            end = block.find(b"\n", at)
            piece = block[at : end + 1] if end >= 0 else block[at:]
            if self._quotes and piece.count(b'"') % 2:
                self._in_quotes = not self._in_quotes
            self._at += len(piece)
            at += len(piece)
            if self._at - self._border > self._limits.max_record_bytes:
                quote = "; a quote may be without its end" if self._in_quotes else ""
                text = f"over {self._limits.max_record_bytes} bytes without an end (limits.maxRecordBytes){quote}"
                raise SourceRefused(self._file.uri, text, f"line {self._border_line}")
            if end < 0:
                return
            self._line += 1
            if not self._in_quotes:
                yield from self._record(len(piece) > 2 or bool(piece.strip()) or self._at - self._border > len(piece))

    def end(self) -> Iterator[Records]:
        """The last part, with a last record that has no line break."""
        if self._in_quotes:
            raise SourceRefused(self._file.uri, "a quote is without its end", f"line {self._border_line}")
        if self._at > self._border:
            self._line += 1
            yield from self._record(True)
        yield from self._cut()

    def _record(self, is_filled: bool) -> Iterator[Records]:
        self._records += 1
        self._border, self._border_line = self._at, self._line
        if not is_filled:
            return
        self._filled, self._filled_records, self._filled_line = self._at, self._records, self._line
        is_full = self._filled - self._part >= self._limits.part_bytes
        if is_full or self._filled_records - self._part_records >= self._limits.part_rows:
            yield from self._cut()

    def _cut(self) -> Iterator[Records]:
        records = self._filled_records - self._part_records
        if records:
            yield Records(self._part, self._filled, self._part_records, records, self._part_line)
        self._part, self._part_records, self._part_line = self._filled, self._filled_records, self._filled_line


def record_list(data: bytes, *, quotes: bool) -> list[bytes]:
    """The records of whole lines, each with its line break."""
    lines = [line for line in re.split(rb"(?<=\n)", data) if line]
    if not quotes or b'"' not in data:
        return lines
    records, parts, in_quotes = [], [], False
    for line in lines:
        parts.append(line)
        if line.count(b'"') % 2:
            in_quotes = not in_quotes
        if not in_quotes:
            records.append(b"".join(parts))
            parts = []
    return [*records, b"".join(parts)] if parts else records


class Parsed:
    """Parses the records of a part, and finds those that cannot be parsed by halving.

    `parse` gives a table of some records, `reason` the sentence for its exception at a single one.
    """

    def __init__(self, parse: Callable[[bytes], Any], reason: Callable[[Exception], str], *, quotes: bool) -> None:
        self._parse, self._reason, self._quotes = parse, reason, quotes
        self._tables: list[Any] = []
        self._rows: list[Sequence[int]] = []
        self.bad: list[BadRow] = []

    def batches(self, part: PartSpec, data: bytes, batch_bytes: int, *, keep: bool) -> Iterator[ReadBatch]:
        """The rows, with those left out if `keep`. Raises `SourceError` at the first bad one otherwise."""
        try:
            table = None if _EMPTY_LINE.search(data) else self._parse(data)
        except pa.ArrowException:
            table = None
        if table is not None and table.num_rows == part.rows:
            yield from batches_of(table, batch_bytes)
            return
        records = record_list(data, quotes=self._quotes)
        self._halve(records, 0, len(records), first_only=not keep)
        if self.bad and not keep:
            row = self.bad[0].row
            line = part.position[2] + b"".join(records[:row]).count(b"\n")
            raise SourceError(part.files[0].uri, self.bad[0].sentence, f"line {line}")
        yield from self._left_out(batch_bytes)

    def _halve(self, records: Sequence[bytes], start: int, stop: int, *, first_only: bool) -> None:
        if start == stop or (first_only and self.bad):
            return
        try:
            if not all(map(bytes.strip, records[start:stop])):
                raise pa.ArrowInvalid("empty line")
            table = self._parse(b"".join(records[start:stop]))
            if table.num_rows != stop - start:
                raise pa.ArrowInvalid("want one record on a line")
            self._tables.append(table)
            self._rows.append(range(start, stop))
        except pa.ArrowException as error:
            if stop - start == 1:
                self.bad.append(BadRow(start, "INVALID_ARGUMENT", self._reason(error)))
                return
            middle = (start + stop) // 2
            self._halve(records, start, middle, first_only=first_only)
            self._halve(records, middle, stop, first_only=first_only)

    def _left_out(self, batch_bytes: int) -> Iterator[ReadBatch]:
        bad: Sequence[BadRow] = self.bad
        for table, rows in zip(self._tables, self._rows, strict=True):
            for batch in batches_of(table, batch_bytes, rows[0]):
                yield ReadBatch(batch.batch, batch.rows, bad)
                bad = ()
        if bad:
            yield ReadBatch(pa.RecordBatch.from_pylist([], pa.schema([])), (), bad)
