"""Parquet: parts are row groups, or rows of one where it is larger than a part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.readers.base import Reader, batches_of, parts_of_groups
from jobs.readers.errors import SourceError, SourceRefused, first_line
from jobs.readers.parts import FileRef, PartSpec, ReadBatch

STRING_BYTES, CONTAINER_ITEMS = 64 << 20, 1_000_000  # of a footer, which anybody may have written
BUFFER_BYTES = 1 << 20  # of a column that is read as a stream
BATCH_ROWS = 4096  # decoded at once
VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 8}


class ParquetReader(Reader):
    """Reads Parquet. The footer has the schema and the rows and bytes of every row group."""

    name: ClassVar[str] = "parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    def schema(self, file: FileRef) -> Any:
        with self._open(file) as opened:
            return opened.schema_arrow.remove_metadata()

    def parts(self, files: Sequence[FileRef]) -> Iterator[PartSpec]:
        for file in files:
            with self._open(file) as opened:
                groups = map(opened.metadata.row_group, range(opened.metadata.num_row_groups))
                counts = ((number, each.num_rows, _size_bytes(opened, each)) for number, each in enumerate(groups))
                yield from parts_of_groups(self, file, counts, "row group")

    def read(self, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
        (number, start), stop = part.position, part.position[1] + (part.rows or 0)
        with self._open(part.files[0]) as opened:
            texts = _dictionary_texts(opened, number, schema)
        with self._open(part.files[0], read_dictionary=texts) as opened:
            end = 0
            for batch in opened.iter_batches(
                min(BATCH_ROWS, self.limits.part_rows), row_groups=[number], columns=schema.names, use_threads=False
            ):
                at, end = end, end + batch.num_rows
                first, last = max(start, at), min(stop, end)
                if first < last:
                    wanted = batch.slice(first - at, last - first).select(schema.names)
                    yield from self._decoded(part.files[0], wanted, schema, first - start)
                if end >= stop:
                    return

    def _decoded(self, file: FileRef, batch: Any, schema: Any, first_row: int) -> Iterator[ReadBatch]:
        """A batch with texts instead of the numbers of a dictionary, in pieces of bounded bytes.

        A text of 1 MiB that 4096 rows name takes a few bytes in a file, and 4 GiB as texts. Raises `SourceRefused`.
        """
        encoded = [name for name in schema.names if batch.column(name).type != schema.field(name).type]
        sizes = sum((_text_bytes(batch.column(name)) for name in encoded), start=np.zeros(batch.num_rows, np.int64))
        if (most := sizes.max(initial=0)) > self.limits.max_record_bytes:
            text = f"{most} bytes of text, over {self.limits.max_record_bytes} (limits.maxRecordBytes)"
            raise SourceRefused(file.uri, text, f"row {first_row + int(sizes.argmax())} of a part")
        ends, start = np.cumsum(sizes), 0
        while start < batch.num_rows:
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + self.limits.batch_bytes, side="right")))
            piece = batch.slice(start, stop - start)
            columns = [piece.column(field.name).cast(field.type) for field in schema]
            dense = pa.RecordBatch.from_arrays(columns, schema=schema) if encoded else piece
            yield from batches_of(dense, self.limits.batch_bytes, first_row + start)
            start = stop

    @contextmanager
    def _open(self, file: FileRef, read_dictionary: Sequence[str] = ()) -> Iterator[Any]:
        with self.sources.open(file) as stream:
            if not file.size_bytes:
                raise SourceRefused(file.uri, "is empty")
            try:
                yield pq.ParquetFile(
                    stream,
                    buffer_size=BUFFER_BYTES,
                    pre_buffer=False,
                    read_dictionary=list(read_dictionary),
                    thrift_string_size_limit=STRING_BYTES,
                    thrift_container_size_limit=CONTAINER_ITEMS,
                )
            except (pa.ArrowException, OSError, MemoryError) as error:
                raise SourceError(file.uri, f"no Parquet that can be read: {first_line(error)}") from error


def _size_bytes(opened: Any, group: Any) -> int:
    """Bytes of a row group when it is read. Lists of one value many times take few bytes in the file."""
    found = group.total_byte_size
    for at in range(group.num_columns):
        column, kind = group.column(at), opened.schema.column(at)
        if kind.max_repetition_level:
            width = VALUE_BYTES.get(column.physical_type, kind.length if kind.length > 0 else 8)
            found += max(0, column.num_values * width - column.total_uncompressed_size)
    return int(found)


def _dictionary_texts(opened: Any, number: int, schema: Any) -> list[str]:
    """Columns of texts that a row group has as numbers of a dictionary."""
    group = opened.metadata.row_group(number)
    columns = (group.column(at) for at in range(group.num_columns))
    return [
        each.path_in_schema
        for each in columns
        if each.physical_type == "BYTE_ARRAY"
        and each.has_dictionary_page
        and each.path_in_schema in schema.names
        and not pa.types.is_dictionary(schema.field(each.path_in_schema).type)
    ]


def _text_bytes(column: Any) -> Any:
    """Bytes of the text of each row [n] of a column that has them as numbers of a dictionary.

    Raises `pyarrow.ArrowInvalid` for a number outside of the dictionary, which pyarrow has not checked.
    """
    if not pa.types.is_dictionary(column.type):
        return np.zeros(len(column), np.int64)
    column.validate(full=True)
    if not len(column.dictionary):
        return np.zeros(len(column), np.int64)
    lengths = pc.fill_null(pc.binary_length(column.dictionary), 0).to_numpy(zero_copy_only=False)
    return np.where(column.is_valid(), lengths[pc.fill_null(column.indices, 0)], 0).astype(np.int64)
