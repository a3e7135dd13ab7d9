"""Files of ModelInferRequest: messages of the Open Inference Protocol, each behind its length as a varint.

That is protobuf's own delimited form: `writeDelimitedTo` in Java, `serialize_length_prefixed` in Python. A file of one
message has its length, too. Inputs become columns; the model, version and parameters are those of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, Any, ClassVar

import pyarrow as pa
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from jobs.readers.base import Reader, batches_of
from jobs.readers.errors import SourceError, SourceRefused, first_line
from jobs.readers.parts import FileRef, PartSpec, ReadBatch
from triptych.errors import TriptychError
from triptych.protocol.metadata import TensorInfo
from triptych.protocol.tensors import request_tensors
from triptych_client.columns.types import column_type
from triptych_client.columns.writing import write_column

HINT = "want each message behind its length as a varint, as serialize_length_prefixed writes it"


class InferRequestReader(Reader):
    """Reads messages one by one. They are read once to plan, since only they say their rows."""

    name: ClassVar[str] = "infer-requests"
    suffixes: ClassVar[tuple[str, ...]] = (".pbs", ".infer")

    def schema(self, file: FileRef) -> Any:
        with self.sources.open(file) as stream:
            start, size_bytes = next(self._messages(file, stream))
            return _table(file, _message(file, stream, start, size_bytes, 0), 0).schema

    def parts(self, files: Sequence[FileRef]) -> Iterator[PartSpec]:
        for file in files:
            with self.sources.open(file) as stream:
                start = stop = first_message = first_row = rows = 0
                for number, (at, size_bytes) in enumerate(self._messages(file, stream)):
                    count = _table(file, _message(file, stream, at, size_bytes, number), number).num_rows
                    if rows and (
                        stop - start + size_bytes > self.limits.part_bytes or rows + count > self.limits.part_rows
                    ):
                        yield PartSpec(self.name, (file,), [start, stop, first_message], first_row, rows, stop - start)
                        start, first_message, first_row, rows = stop, number, first_row + rows, 0
                    stop, rows = at + size_bytes, rows + count
                yield PartSpec(self.name, (file,), [start, stop, first_message], first_row, rows, stop - start)

    def read(self, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
        file, (at, stop, first_message), row = part.files[0], part.position, 0
        with self.sources.open(file) as stream:
            for number, (start, size_bytes) in enumerate(self._messages(file, stream, at, stop), first_message):
                table = _table(file, _message(file, stream, start, size_bytes, number), number)
                if not set(schema.names) <= set(table.schema.names) or table.select(schema.names).schema != schema:
                    text = f"want the inputs {_described(schema)}, got {_described(table.schema)}"
                    raise SourceRefused(file.uri, text, f"message {number}")
                yield from batches_of(table.select(schema.names), self.limits.batch_bytes, row)
                row += table.num_rows

    def _messages(
        self, file: FileRef, stream: IO[bytes], at: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """Place and bytes of each message. Raises `SourceError`."""
        if not file.size_bytes:
            raise SourceRefused(file.uri, "is empty")
        stop, number = file.size_bytes if stop is None else stop, 0
        while at < stop:
            stream.seek(at)
            size_bytes, width = _varint(stream.read(10))
            place = f"byte {at}"
            if not width or (not size_bytes and not number):
                raise SourceRefused(file.uri, f"no length of a message; {HINT}", place)
            if size_bytes > self.limits.max_record_bytes:
                limit = self.limits.max_record_bytes
                raise SourceRefused(
                    file.uri, f"a message of {size_bytes} bytes, over {limit} (limits.maxRecordBytes)", place
                )
            if at + width + size_bytes > file.size_bytes:
                raise SourceRefused(file.uri, f"ends within a message of {size_bytes} bytes; {HINT}", place)
            yield at + width, size_bytes
            at, number = at + width + size_bytes, number + 1


def _varint(data: bytes) -> tuple[int, int]:
    """A number as protobuf writes it, and its bytes; 0 bytes if there is none."""
    value = 0
    for width, byte in enumerate(data, 1):
        value |= (byte & 0x7F) << (7 * (width - 1))
        if byte < 0x80:
            return value, width
    return 0, 0


def _message(file: FileRef, stream: IO[bytes], start: int, size_bytes: int, number: int) -> Any:
    stream.seek(start)
    try:
        return pb.ModelInferRequest.FromString(stream.read(size_bytes))
    except DecodeError as error:
        raise SourceError(
            file.uri, f"no ModelInferRequest: {first_line(error)}; {HINT}", f"message {number}"
        ) from error


def _table(file: FileRef, request: Any, number: int) -> Any:
    """The inputs of a request as columns. Raises `SourceRefused`."""
    try:
        arrays = request_tensors(request).arrays()
    except TriptychError as error:
        raise SourceRefused(file.uri, str(error), f"message {number}") from error
    datatypes = {each.name: each.datatype for each in request.inputs}
    if not arrays or any(not array.ndim for array in arrays.values()):
        raise SourceRefused(file.uri, "want inputs with rows as their first dimension", f"message {number}")
    if len({len(array) for array in arrays.values()}) > 1:
        raise SourceRefused(file.uri, "the inputs have different numbers of rows", f"message {number}")
    columns = {}
    for name, array in arrays.items():
        info = TensorInfo(name, datatypes[name], (-1, *[-1] * (array.ndim - 1)) if array.ndim > 1 else (-1,))
        columns[name] = write_column(array, info)
        assert columns[name].type == column_type(info)
    return pa.RecordBatch.from_pydict(columns)


def _described(schema: Any) -> str:
    return ", ".join(f"{each.name} {each.type}" for each in schema)
