"""CSV: RFC 4180 in UTF-8 with a header, and any delimiter.

Types are those of the options, else those that the first bytes of the first file show.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

import pyarrow as pa
import pyarrow.csv

from jobs.readers.base import Reader, check_columns
from jobs.readers.errors import SourceError, SourceRefused, first_line
from jobs.readers.lines import BOM, Parsed, first_bytes, record_list, split_records
from jobs.readers.parts import FileRef, PartSpec, ReadBatch

_CONVERSION: Final = re.compile(
    r"In CSV column #(\d+): .*CSV conversion error to ([^:]+): (?:invalid value '(.*)'|(.*))", re.DOTALL
)
_RAGGED: Final = re.compile(r"Expected (\d+) columns, got (\d+)")


class CsvReader(Reader):
    """Reads CSV by parts of whole records."""

    name: ClassVar[str] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")
    has_types = False

    def schema(self, file: FileRef) -> Any:
        with self.sources.open(file) as stream:
            names, start = self._header(file, stream)
            if doubled := sorted({name for name in names if names.count(name) > 1}):
                raise SourceRefused(file.uri, f"the column '{doubled[0]}' is there more than once", "line 1")
            stream.seek(start)
            sample = stream.read(self.limits.sample_bytes)
            is_whole = not stream.read(1)
        records = record_list(sample, quotes=True)
        rows = b"".join(records if is_whole or len(records) == 1 else records[:-1])
        return self._inferred(file, names, rows)

    def parts(self, files: Sequence[FileRef]) -> Iterator[PartSpec]:
        for file in files:
            with self.sources.open(file) as stream:
                names, start = self._header(file, stream)
                stream.seek(0)
                line = stream.read(start).count(b"\n") + 1
                for piece in split_records(file, stream, start, self.limits, quotes=True, line=line):
                    size_bytes, position = piece.stop - piece.start, [piece.start, piece.stop, piece.line, names]
                    yield PartSpec(self.name, (file,), position, piece.first_record, piece.records, size_bytes)

    def read(self, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
        start, stop, _, names = part.position
        with self.sources.open(part.files[0]) as stream:
            stream.seek(start)
            data = stream.read(stop - start)
        if len(data) != stop - start:
            raise SourceError(part.files[0].uri, f"ends at byte {start + len(data)}, want {stop}")
        wanted = [schema.field(name) for name in schema.names]
        parsed = Parsed(lambda some: self._table(part.files[0], some, names, wanted), self._reason(names), quotes=True)
        yield from parsed.batches(part, data, self.limits.batch_bytes, keep=self.options.keep_bad_rows)

    def _header(self, file: FileRef, stream: Any) -> tuple[list[str], int]:
        """Names of the columns, and the place of the first row. Raises `SourceRefused`."""
        data = first_bytes(file, stream, self.limits.sample_bytes)
        mark = len(BOM) if data.startswith(BOM) else 0
        header = record_list(data[mark:], quotes=True)[0]
        try:
            text = header.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise SourceRefused(file.uri, f"not UTF-8: byte 0x{header[error.start]:02x}", "line 1") from None
        if "\r" in text:
            raise SourceRefused(file.uri, "has carriage returns without line feeds; want \\n or \\r\\n", "line 1")
        try:
            names = next(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter(file)), [])
        except csv.Error as error:
            raise SourceRefused(file.uri, f"no header: {error}", "line 1") from None
        check_columns(file, len(names), self.limits, "line 1")
        for name in names:
            if not name.strip():
                raise SourceRefused(file.uri, "a column has no name; the first line is to name all", "line 1")
            if _is_number(name):
                raise SourceRefused(file.uri, f"no header: '{name}' is a number; want names of columns", "line 1")
        return names, mark + len(header)

    def _delimiter(self, file: FileRef) -> str:
        is_default = self.options.delimiter == ","
        return "\t" if is_default and file.uri.lower().endswith(".tsv") else self.options.delimiter

    def _inferred(self, file: FileRef, names: list[str], rows: bytes) -> Any:
        """The schema by the types of the options and the first rows."""
        known = {name: kind for name, kind in self.options.types.items() if name in names}
        wanted = [name for name in names if self.options.columns is None or name in self.options.columns]
        if not rows.strip() or all(name in known for name in wanted):
            return pa.schema([(name, known.get(name, pa.string())) for name in names])
        free = [name for name in wanted if name not in known]
        try:
            convert = pyarrow.csv.ConvertOptions(include_columns=free)
            found = self._parsed(file, rows, names, convert, on_ragged=lambda _: "skip").schema
        except pa.ArrowException:  # no text, which is named when it is read
            found = pa.schema([(name, pa.string()) for name in free])
        kinds = {each.name: pa.string() if pa.types.is_null(each.type) else each.type for each in found}
        return pa.schema([(name, known.get(name, kinds.get(name, pa.string()))) for name in names])

    def _table(self, file: FileRef, rows: bytes, names: list[str], wanted: Sequence[Any]) -> Any:
        types = {each.name: each.type for each in wanted}
        options = pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(types))
        return self._parsed(file, rows, names, options)

    def _parsed(self, file: FileRef, rows: bytes, names: list[str], convert: Any, on_ragged: Any = None) -> Any:
        return pyarrow.csv.read_csv(
            pa.BufferReader(rows),
            read_options=pyarrow.csv.ReadOptions(column_names=names, use_threads=False, block_size=max(len(rows), 1)),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self._delimiter(file),
                newlines_in_values=b'"' in rows,
                ignore_empty_lines=False,
                invalid_row_handler=on_ragged,
            ),
            convert_options=convert,
        )

    @staticmethod
    def _reason(names: Sequence[str]) -> Any:
        def reason(error: Exception) -> str:
            text = str(error)
            if found := _CONVERSION.search(text):
                column, kind, value, why = found.groups()
                got = f"got '{value}'" if value is not None else why.strip()
                return f"column '{names[int(column)]}': want {kind}, {got}"
            if found := _RAGGED.search(text):
                return f"want {found[1]} fields, got {found[2]}"
            return first_line(error)

        return reason


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().lower() not in ("nan", "inf", "infinity")
