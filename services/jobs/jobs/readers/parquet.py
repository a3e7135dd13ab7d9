"""Parquet: parts are row groups, or rows of one where it is larger than a part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.readers.base import Reader, batches_of, parts_of_groups
from jobs.readers.errors import SourceError, SourceRefused, first_line
from jobs.readers.parts import FileRef, PartSpec, ReadBatch

STRING_BYTES, CONTAINER_ITEMS = 64 << 20, 1_000_000  # of a footer, which anybody may have written
BUFFER_BYTES = 1 << 20  # of a column that is read as a stream
BATCH_ROWS = 4096  # decoded at once


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
                counts = ((number, group.num_rows, group.total_byte_size) for number, group in enumerate(groups))
                yield from parts_of_groups(self, file, counts, "row group")

    def read(self, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
        (number, start), stop = part.position, part.position[1] + (part.rows or 0)
        with self._open(part.files[0]) as opened:
            end = 0
            for batch in opened.iter_batches(
                min(BATCH_ROWS, self.limits.part_rows), row_groups=[number], columns=schema.names, use_threads=False
            ):
                at, end = end, end + batch.num_rows
                first, last = max(start, at), min(stop, end)
                if first < last:
                    wanted = batch.slice(first - at, last - first).select(schema.names)
                    yield from batches_of(wanted, self.limits.batch_bytes, first - start)
                if end >= stop:
                    return

    @contextmanager
    def _open(self, file: FileRef) -> Iterator[Any]:
        with self.sources.open(file) as stream:
            if not file.size_bytes:
                raise SourceRefused(file.uri, "is empty")
            try:
                yield pq.ParquetFile(
                    stream,
                    buffer_size=BUFFER_BYTES,
                    pre_buffer=False,
                    thrift_string_size_limit=STRING_BYTES,
                    thrift_container_size_limit=CONTAINER_ITEMS,
                )
            except (pa.ArrowException, OSError, MemoryError) as error:
                raise SourceError(file.uri, f"no Parquet that can be read: {first_line(error)}") from error
