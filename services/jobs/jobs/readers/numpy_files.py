"""Arrays of numpy: .npy is one column named `array`, .npz a column for each member. The first dimension is the rows."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tokenize import TokenError
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa

from jobs.readers.archives import open_zip
from jobs.readers.base import Reader
from jobs.readers.errors import SourceError, SourceRefused, first_line
from jobs.readers.parts import FileRef, PartSpec, ReadBatch

COLUMN = "array"  # of a .npy, which has no name inside
HEADER_BYTES = 10_000
KINDS = {"b": "b1", "i": "i", "u": "u", "f": "f"}


class ArrayHeader(NamedTuple):
    """Header of an array: its dtype and shape, and the place of its first value in the stream."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])  # of Python's numbers, which do not wrap

    @property
    def column_type(self) -> Any:
        """Type of the column: a value, or lists of fixed size for each further dimension."""
        if self.dtype.kind in "US":
            kind = pa.string() if self.dtype.kind == "U" else pa.binary()
        else:
            kind = pa.from_numpy_dtype(self.dtype.newbyteorder("="))
        for dim in reversed(self.shape[1:]):
            kind = pa.list_(kind, dim)
        return kind


class _ArrayReader(Reader):
    """Base of .npy and .npz: arrays of equal rows, side by side."""

    def schema(self, file: FileRef) -> Any:
        with self._arrays(file) as arrays:
            return pa.schema([(name, header.column_type) for name, (header, _) in arrays.items()])

    def parts(self, files: Sequence[FileRef]) -> Iterator[PartSpec]:
        for file in files:
            with self._arrays(file) as arrays:
                rows = next(iter(arrays.values()))[0].shape[0]
                each = max(1, sum(header.row_bytes for header, _ in arrays.values()))
                count = max(1, min(self.limits.part_rows, self.limits.part_bytes // each))
                count = self._rows_of_part(file, rows, rows * each, count)
                for start in range(0, rows, count):
                    size = min(count, rows - start)
                    yield PartSpec(self.name, (file,), [start], start, size, size * each)

    def read(self, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
        start, rows = part.position[0], part.rows or 0
        with self._arrays(part.files[0]) as arrays:
            each = max(1, sum(arrays[name][0].row_bytes for name in schema.names))
            count = max(1, self.limits.batch_bytes // each)
            for first in range(0, rows, count):
                size = min(count, rows - first)
                columns = [self._rows(part.files[0], *arrays[name], start + first, size) for name in schema.names]
                yield ReadBatch(pa.RecordBatch.from_arrays(columns, schema=schema), range(first, first + size))

    def _rows_of_part(self, file: FileRef, rows: int, size_bytes: int, count: int) -> int:
        """Rows of a part; `count` is what its bytes allow."""
        return count

    @contextmanager
    def _arrays(self, file: FileRef) -> Iterator[dict[str, tuple[ArrayHeader, IO[bytes]]]]:
        raise NotImplementedError

    @staticmethod
    def _rows(file: FileRef, header: ArrayHeader, stream: IO[bytes], first: int, count: int) -> Any:
        """Rows of one array as a column."""
        stream.seek(header.start + first * header.row_bytes)
        data = stream.read(count * header.row_bytes)
        if len(data) != count * header.row_bytes:
            raise SourceError(file.uri, "is truncated", f"row {first + len(data) // max(1, header.row_bytes)}")
        values = np.frombuffer(data, header.dtype)
        if header.dtype.kind == "b":
            values = values.view(np.uint8) != 0
        flat = pa.array(values.astype(header.dtype.newbyteorder("="), copy=False))
        for dim in reversed(header.shape[1:]):
            flat = pa.FixedSizeListArray.from_arrays(flat, dim)
        return flat


class NpyReader(_ArrayReader):
    """Reads .npy files."""

    name: ClassVar[str] = "npy"
    suffixes: ClassVar[tuple[str, ...]] = (".npy",)

    @contextmanager
    def _arrays(self, file: FileRef) -> Iterator[dict[str, tuple[ArrayHeader, IO[bytes]]]]:
        with self.sources.open(file) as stream:
            header = read_header(file, stream, file.size_bytes)
            yield {COLUMN: (header, stream)}


class NpzReader(_ArrayReader):
    """Reads .npz files. A packed one is a single part, since rows in its middle cannot be found alone."""

    name: ClassVar[str] = "npz"
    suffixes: ClassVar[tuple[str, ...]] = (".npz",)

    @contextmanager
    def _arrays(self, file: FileRef) -> Iterator[dict[str, tuple[ArrayHeader, IO[bytes]]]]:
        with self.sources.open(file) as stream:
            try:
                with open_zip(file, stream) as archive:
                    self._check(file, archive.infolist())
                    yield self._opened(file, archive)
            except (zipfile.BadZipFile, NotImplementedError) as error:
                raise SourceError(file.uri, f"no archive that can be read: {first_line(error)}") from error

    def _opened(self, file: FileRef, archive: zipfile.ZipFile) -> dict[str, tuple[ArrayHeader, IO[bytes]]]:
        arrays: dict[str, tuple[ArrayHeader, IO[bytes]]] = {}
        for entry in archive.infolist():
            name, member = entry.filename.removesuffix(".npy"), archive.open(entry)
            arrays[name] = read_header(file, member, entry.file_size, f"array '{name}'"), member
        (first, (header, _)), *others = arrays.items()
        for name, (other, _) in others:
            if other.shape[0] != header.shape[0]:
                text = f"has {other.shape[0]} rows, '{first}' has {header.shape[0]}"
                raise SourceRefused(file.uri, text, f"array '{name}'")
        return arrays

    def _check(self, file: FileRef, entries: Sequence[zipfile.ZipInfo]) -> None:
        """Raises `SourceRefused` for what numpy has not written, and for bombs."""
        limits = self.limits
        if not entries:
            raise SourceRefused(file.uri, "holds no array")
        if len(entries) > limits.max_columns:
            raise SourceRefused(file.uri, f"more than {limits.max_columns} arrays (limits.maxColumns)")
        for entry in entries:
            if not entry.filename.endswith(".npy") or entry.flag_bits & 1:
                raise SourceRefused(file.uri, "want arrays of numpy.savez", f"entry '{entry.filename}'")
            if entry.file_size > max(1 << 20, entry.compress_size * limits.max_unpacked_ratio):
                text = f"{entry.file_size} bytes of {entry.compress_size} packed ones (limits.maxUnpackedRatio)"
                raise SourceRefused(file.uri, text, f"entry '{entry.filename}'")
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        total = sum(entry.file_size for entry in entries)
        if packed and total > limits.part_bytes:
            text = f"is packed and larger than a part of {limits.part_bytes} bytes (limits.partBytes)"
            raise SourceRefused(file.uri, f"{text}; save it by numpy.savez, or as Parquet")

    def _rows_of_part(self, file: FileRef, rows: int, size_bytes: int, count: int) -> int:
        with self.sources.open(file) as stream, open_zip(file, stream) as archive:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
        return max(1, rows) if packed else count


def read_header(file: FileRef, stream: IO[bytes], size_bytes: int, place: str = "") -> ArrayHeader:
    """The header of an array, with its sizes checked against those of the file. Raises `SourceError`."""
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(stream, max_header_size=HEADER_BYTES)
    except (ValueError, EOFError, SyntaxError, TokenError, RecursionError, MemoryError, zipfile.BadZipFile) as error:
        raise SourceError(file.uri, f"no array of numpy that can be read: {first_line(error)}", place) from error
    is_known = dtype.kind in "USb" or (dtype.kind in "iuf" and dtype.itemsize <= 8)
    if dtype.hasobject or not is_known or not 0 < dtype.itemsize <= HEADER_BYTES:
        raise SourceRefused(file.uri, f"want numbers, booleans or text, got {dtype}", place)
    if is_fortran and len(shape) > 1:
        raise SourceRefused(file.uri, "is in Fortran's order; save numpy.ascontiguousarray of it", place)
    if not shape or shape[0] < 0 or not all(0 < dim < 1 << 31 for dim in shape[1:]) or len(shape) > 8:
        raise SourceRefused(file.uri, f"want rows and dimensions above 0, got the shape {list(shape)}", place)
    header = ArrayHeader(dtype, shape, stream.tell())
    want, got = shape[0] * header.row_bytes, size_bytes - header.start
    if want != got:
        raise SourceRefused(file.uri, f"want {want} bytes for {list(shape)} of {dtype}, got {got}: truncated", place)
    return header
