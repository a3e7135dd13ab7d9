"""The interface of a reader: from files to a schema, to parts, to record batches of bounded bytes.

A package adds readers with entry points of the group `triptych.readers`, each naming a subclass of `Reader`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from jobs.readers.errors import SourceError, SourceRefused, first_line
from jobs.readers.limits import ReadLimits
from jobs.readers.parts import FileRef, PartSpec, ReadBatch
from jobs.readers.sources import Sources


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Columns, types and limits of a run.

    `columns`: those that are wanted; None: all. `types`: Arrow types of columns whose format has none (CSV, JSONL).
    `keep_bad_rows`: leave out a row that cannot be read, and name it, instead of refusing the file.
    """

    columns: tuple[str, ...] | None = None
    types: Mapping[str, Any] = field(default_factory=dict)
    delimiter: str = ","
    keep_bad_rows: bool = False
    limits: ReadLimits = field(default_factory=ReadLimits)


class Reader(ABC):
    """One format. `name` is its word in a document, `suffixes` are the ends of its files' names."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    has_types = True  # whether the files themselves say the types of their columns

    def __init__(self, sources: Sources, options: ReadOptions) -> None:
        self.sources, self.options = sources, options

    @property
    def limits(self) -> ReadLimits:
        return self.options.limits

    @abstractmethod
    def schema(self, file: FileRef) -> Any:
        """The `pyarrow.Schema` of all columns of a file, before any row is read. Raises `SourceError`."""

    @abstractmethod
    def parts(self, files: Sequence[FileRef]) -> Iterator[PartSpec]:
        """The parts of the files, from footers and headers. Raises `SourceError`."""

    @abstractmethod
    def read(self, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
        """The rows of a part with the columns of `schema`, in batches of at most `batch_bytes`. Raises `SourceError`.

        A single row may be larger than a batch.
        """


def checked_schema(reader: Reader, files: Sequence[FileRef]) -> Any:
    """The schema of the wanted columns, which all files share. Raises `SourceRefused` with the file and the column."""
    first = _wanted(reader, files[0], reader.schema(files[0]))
    for file in files[1:]:
        other = _wanted(reader, file, reader.schema(file))
        for column in first:
            if column.name not in other.names:
                raise SourceRefused(file.uri, f"has no column '{column.name}', which {files[0].uri} has")
            if reader.has_types and not other.field(column.name).type.equals(column.type):
                got, want = other.field(column.name).type, column.type
                raise SourceRefused(file.uri, f"column '{column.name}' is {got}, in {files[0].uri} it is {want}")
        if reader.options.columns is None and (more := [name for name in other.names if name not in first.names]):
            raise SourceRefused(file.uri, f"has a column '{more[0]}', which {files[0].uri} does not have")
    return first


def _wanted(reader: Reader, file: FileRef, schema: Any) -> Any:
    """The wanted columns of a schema. Raises `SourceRefused`."""
    names = schema.names
    check_columns(file, len(names), reader.limits)
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise SourceRefused(file.uri, f"the column '{doubled[0]}' is there more than once")
    if reader.options.columns is None:
        return schema
    for name in reader.options.columns:
        if name not in names:
            known = ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")
            raise SourceRefused(file.uri, f"has no column '{name}'; there are: {known}")
    return pa.schema([schema.field(name) for name in reader.options.columns])


def check_columns(file: FileRef, count: int, limits: ReadLimits, place: str = "") -> None:
    """Refuse too many columns, before their names are compared with each other. Raises `SourceRefused`."""
    if count > limits.max_columns:
        raise SourceRefused(file.uri, f"{count} columns, over {limits.max_columns} (limits.maxColumns)", place)


def parts_of_groups(
    reader: Reader, file: FileRef, counts: Iterator[tuple[int, int, int]], noun: str
) -> Iterator[PartSpec]:
    """Parts of whole groups of rows, or of rows of one; their position is the group and the row in it.

    `counts` has number, rows and bytes of each group, which is a `noun` in the error. Raises `SourceRefused`.
    """
    first_row, limits = 0, reader.limits
    for number, rows, size_bytes in counts:
        if size_bytes > limits.max_row_group_bytes:
            text = f"{size_bytes} bytes, over {limits.max_row_group_bytes} (limits.maxRowGroupBytes)"
            raise SourceRefused(file.uri, text, f"{noun} {number}")
        pieces = max(-(-size_bytes // limits.part_bytes), -(-rows // limits.part_rows), 1)
        each = max(1, -(-rows // pieces))
        for start in range(0, rows, each):
            count = min(each, rows - start)
            yield PartSpec(reader.name, (file,), [number, start], first_row + start, count, size_bytes * count // rows)
        first_row += rows


def batches_of(data: Any, batch_bytes: int, first_row: int = 0) -> Iterator[ReadBatch]:
    """A table or record batch in slices of about `batch_bytes`; its rows have the numbers from `first_row`."""
    for batch in data.to_batches() if isinstance(data, pa.Table) else [data]:
        if not batch.num_rows:
            continue
        rows_each = max(1, batch.num_rows * batch_bytes // max(1, batch.nbytes))
        for start in range(0, batch.num_rows, rows_each):
            piece = batch.slice(start, rows_each)
            yield ReadBatch(piece, range(first_row + start, first_row + start + piece.num_rows))
        first_row += batch.num_rows


def read_rows(reader: Reader, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
    """Read a part, and check that it has as many rows as were planned. Raises `SourceError`."""
    count = 0
    try:
        for batch in reader.read(part, schema):
            count += batch.batch.num_rows + len(batch.bad)
            yield batch
    except (pa.ArrowException, OSError, EOFError, ValueError, MemoryError) as error:
        raise SourceError(part.files[0].uri, f"cannot be read: {first_line(error)}", place_of(part)) from error
    if part.rows is not None and count != part.rows:
        raise SourceError(part.files[0].uri, f"want {part.rows} rows as planned, got {count}", place_of(part))


def place_of(part: PartSpec) -> str:
    """`from row 100` of a part's file."""
    return f"from row {part.first_row}" if part.first_row else ""
