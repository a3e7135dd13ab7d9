"""Arrow IPC: a file with a footer, whose parts are record batches, and a stream, which is read from its start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, ClassVar

import pyarrow as pa

from jobs.readers.arrow_sizes import Size, file_sizes, stream_sizes
from jobs.readers.base import Reader, batches_of, parts_of_groups
from jobs.readers.errors import SourceError, SourceRefused, first_line
from jobs.readers.parts import FileRef, PartSpec, ReadBatch


class _ArrowReader(Reader):
    """Base of both forms: messages that are record batches of one schema."""

    def schema(self, file: FileRef) -> Any:
        with self._open(file) as opened:
            return opened.schema.remove_metadata()

    def _rows(self, batch: Any, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
        """The rows of a part of its message, in small batches that do not share its buffers."""
        try:
            batch.validate(full=True)  # wrong offsets would lead out of the buffers
        except pa.ArrowException as error:
            place = f"record batch {part.position[0]}"
            raise SourceError(part.files[0].uri, f"is damaged: {first_line(error)}", place) from error
        yield from batches_of(batch.slice(part.position[1], part.rows).select(schema.names), self.limits.batch_bytes)

    def _check_sizes(self, file: FileRef, sizes: Callable[[IO[bytes], int], Iterator[Size]]) -> None:
        """Refuse a message that becomes too large, before it is unpacked. Raises `SourceError`."""
        limit = self.limits.max_row_group_bytes
        with self.sources.open(file) as stream:
            if not file.size_bytes:
                raise SourceRefused(file.uri, "is empty")
            try:
                for message, size_bytes in sizes(stream, file.size_bytes):
                    if size_bytes > limit:
                        text = f"{size_bytes} bytes, over {limit} (limits.maxRowGroupBytes)"
                        raise SourceRefused(file.uri, text, message)
            except ValueError as error:
                raise SourceError(file.uri, f"no {self.title} that can be read: {error}") from error

    @contextmanager
    def _open(self, file: FileRef) -> Iterator[Any]:
        with self.sources.open(file) as stream:
            if not file.size_bytes:
                raise SourceRefused(file.uri, "is empty")
            try:
                yield self._opened(stream)
            except (pa.ArrowException, OSError, EOFError, MemoryError) as error:
                raise SourceError(file.uri, f"no {self.title} that can be read: {first_line(error)}") from error

    title: ClassVar[str]

    def _opened(self, stream: Any) -> Any:
        raise NotImplementedError


class ArrowFileReader(_ArrowReader):
    """Reads Arrow IPC files, also called Feather 2."""

    name: ClassVar[str] = "arrow"
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather", ".ipc")
    title: ClassVar[str] = "Arrow IPC file"

    def parts(self, files: Sequence[FileRef]) -> Iterator[PartSpec]:
        for file in files:
            self._check_sizes(file, file_sizes)
            with self._open(file) as opened:
                yield from parts_of_groups(self, file, self._counts(file, opened), "record batch")

    def read(self, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
        with self._open(part.files[0]) as opened:
            yield from self._rows(opened.get_batch(part.position[0]), part, schema)

    @staticmethod
    def _counts(file: FileRef, opened: Any) -> Iterator[tuple[int, int, int]]:
        """Number, rows and bytes of each message. The footer has places, no rows, so each is read once."""
        for number in range(opened.num_record_batches):
            batch = opened.get_batch(number)
            yield number, batch.num_rows, batch.get_total_buffer_size()

    def _opened(self, stream: Any) -> Any:
        return pa.ipc.open_file(stream)


class ArrowStreamReader(_ArrowReader):
    """Reads Arrow IPC streams. They have no footer: a part is found by reading the messages before it."""

    name: ClassVar[str] = "arrow-stream"
    suffixes: ClassVar[tuple[str, ...]] = (".arrows",)
    title: ClassVar[str] = "Arrow IPC stream"

    def parts(self, files: Sequence[FileRef]) -> Iterator[PartSpec]:
        for file in files:
            self._check_sizes(file, stream_sizes)
            with self._open(file) as opened:
                counts = ((at, batch.num_rows, batch.get_total_buffer_size()) for at, batch in enumerate(opened))
                yield from parts_of_groups(self, file, counts, "record batch")

    def read(self, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
        with self._open(part.files[0]) as opened:
            for number, batch in enumerate(opened):
                if number == part.position[0]:
                    yield from self._rows(batch, part, schema)
                    return

    def _opened(self, stream: Any) -> Any:
        return pa.ipc.open_stream(stream)
