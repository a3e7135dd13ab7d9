"""The reader: a slice a row, with the columns `slice` (int16, rows of voxels) and `voxel_ml`.

A packed volume (.nii.gz) is unpacked from its start for each part, and never further than its header says.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from ct_reader.header import HEADER_BYTES, Header, WrongHeader, read_header
from jobs.readers.base import Reader
from jobs.readers.errors import SourceError, SourceRefused, first_line
from jobs.readers.parts import FileRef, PartSpec, ReadBatch

CHUNK_BYTES: Final = 1 << 20
GZIP: Final = b"\x1f\x8b"
SLICE, VOXEL_ML = "slice", "voxel_ml"


class NiftiReader(Reader):
    """Reads volumes of NIfTI-1."""

    name: ClassVar[str] = "nifti"
    suffixes: ClassVar[tuple[str, ...]] = (".nii", ".nii.gz")

    def schema(self, file: FileRef) -> Any:
        header = self._header(file)
        voxels = pa.list_(pa.list_(pa.int16(), header.width), header.height)
        return pa.schema([(SLICE, voxels), (VOXEL_ML, pa.float32())])

    def parts(self, files: Sequence[FileRef]) -> Iterator[PartSpec]:
        for file in files:
            header = self._header(file)
            count = max(1, min(self.limits.part_rows, self.limits.part_bytes // header.slice_bytes))
            for first in range(0, header.slices, count):
                rows = min(count, header.slices - first)
                yield PartSpec(self.name, (file,), [first], first, rows, rows * header.slice_bytes)

    def read(self, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
        file, first, rows = part.files[0], int(part.position[0]), part.rows or 0
        header = self._header(file)
        each = max(1, self.limits.batch_bytes // header.slice_bytes)
        with self._unpacked(file) as (stream, packed):
            _skip(file, stream, header.offset + first * header.slice_bytes, packed=packed)
            for start in range(0, rows, each):
                count = min(each, rows - start)
                data = _exactly(file, stream, count * header.slice_bytes, first + start)
                columns = {SLICE: _slices(header, data), VOXEL_ML: pa.array([header.voxel_ml] * count, pa.float32())}
                batch = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
                yield ReadBatch(batch, range(start, start + count))
            if first + rows == header.slices and stream.read(1):
                raise SourceError(file.uri, f"has more bytes than the {header.file_bytes} of {header.text}")

    def _header(self, file: FileRef) -> Header:
        """The header, with the size that it states compared to what is there. Raises `SourceError`."""
        with self._unpacked(file) as (stream, packed):
            try:
                header = read_header(stream.read(HEADER_BYTES))
            except WrongHeader as error:
                raise SourceRefused(file.uri, str(error), "header") from None
        limits = self.limits
        if header.file_bytes > limits.max_unpacked_bytes:
            text = f"{header.text} are {header.file_bytes} bytes, over {limits.max_unpacked_bytes}"
            raise SourceRefused(file.uri, f"{text} (limits.maxUnpackedBytes)", "header")
        if header.slice_bytes > limits.max_record_bytes:
            text = f"a slice of {header.slice_bytes} bytes, over {limits.max_record_bytes} (limits.maxRecordBytes)"
            raise SourceRefused(file.uri, text, "header")
        if packed and header.file_bytes > max(CHUNK_BYTES, file.size_bytes * limits.max_unpacked_ratio):
            text = f"{header.file_bytes} bytes of {file.size_bytes} packed ones (limits.maxUnpackedRatio)"
            raise SourceRefused(file.uri, text)
        self._check_size(file, header, packed=packed)
        return header

    def _check_size(self, file: FileRef, header: Header, *, packed: bool) -> None:
        """Raises `SourceRefused`. A packed file ends with its unpacked size, modulo 2**32."""
        want, got = header.file_bytes, file.size_bytes
        if packed:
            with self.sources.open(file) as stream:
                stream.seek(max(0, file.size_bytes - 4))
                want, got = want % (1 << 32), int.from_bytes(stream.read(4), "little")
        if want != got:
            kind = "truncated" if got < want or packed else "longer than its header says"
            raise SourceRefused(file.uri, f"want {want} bytes for {header.text}, got {got}: {kind}")

    @contextmanager
    def _unpacked(self, file: FileRef) -> Iterator[tuple[IO[bytes], bool]]:
        """The unpacked content, and whether it was packed. Raises `SourceError` for what cannot be unpacked."""
        with self.sources.open(file) as stream:
            packed = stream.read(len(GZIP)) == GZIP  # an upload has no name that could say it
            stream.seek(0)
            if not packed:
                yield stream, False
                return
            try:
                with gzip.GzipFile(fileobj=stream, mode="rb") as unpacked:
                    yield io.BufferedReader(unpacked, CHUNK_BYTES), True
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise SourceError(file.uri, f"cannot be unpacked: {first_line(error)}") from error


def _skip(file: FileRef, stream: IO[bytes], count: int, *, packed: bool) -> None:
    """Pass over bytes, without keeping them."""
    if not packed:
        stream.seek(count)
        return
    while count:
        data = stream.read(min(count, CHUNK_BYTES))
        if not data:
            raise SourceError(file.uri, "is truncated")
        count -= len(data)


def _exactly(file: FileRef, stream: IO[bytes], count: int, row: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise SourceError(file.uri, "is truncated", f"slice {row}")
    return data


def _slices(header: Header, data: bytes) -> Any:
    """Voxels as lists of rows: x is the fastest, then y."""
    flat = pa.array(np.frombuffer(data, "<i2"))
    rows = pa.FixedSizeListArray.from_arrays(flat, header.width)
    return pa.FixedSizeListArray.from_arrays(rows, header.height)
