"""Pictures: the files of a folder or prefix, and the entries of zip and tar archives.

Each picture is a row: `name` is the name of the file or entry, `image` its bytes, which the model decodes. Entries that
are no pictures by their name are left out.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO, Any, ClassVar, Final

import pyarrow as pa

from jobs.readers.archives import open_zip
from jobs.readers.base import Reader
from jobs.readers.errors import SourceError, SourceRefused, first_line
from jobs.readers.parts import BadRow, FileRef, PartSpec, ReadBatch
from triptych.contract.reading.files import escaped

IMAGES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
SCHEMA: Final = pa.schema([("name", pa.string()), ("image", pa.binary())])
FREE_BYTES: Final = 1 << 20  # of an entry that may be packed at any ratio
ENTRIES_AT_ONCE: Final = 1000  # pictures of one part
HEADER_BYTES: Final = 1 << 20  # of one entry of a tar

# Headers of long names, one behind the other, are read by recursion.
_BROKEN: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
    RecursionError,
)


class PictureReader(Reader):
    """Reads pictures. A zip is planned from its directory, a tar from its headers."""

    name: ClassVar[str] = "pictures"
    suffixes: ClassVar[tuple[str, ...]] = (".zip", ".tar", *IMAGES)

    def schema(self, file: FileRef) -> Any:
        return SCHEMA

    def parts(self, files: Sequence[FileRef]) -> Iterator[PartSpec]:
        loose: list[FileRef] = []
        for file in files:
            if file.uri.lower().endswith((".zip", ".tar", ".tgz", ".tar.gz")):
                yield from self._archive_parts(file)
            else:
                self._check_size(file, file.uri, file.size_bytes)
                if loose and self._is_full(len(loose) + 1, sum(each.size_bytes for each in loose) + file.size_bytes):
                    yield self._loose_part(loose)
                    loose = []
                loose.append(file)
        if loose:
            yield self._loose_part(loose)

    def read(self, part: PartSpec, schema: Any) -> Iterator[ReadBatch]:
        wanted = _Batches(schema, self.limits.batch_bytes)
        if part.position:
            pictures = self._entries(part)
        else:
            pictures = ((file.uri.rpartition("/")[2], self._whole(file)) for file in part.files)
        for row, (name, data) in enumerate(pictures):
            if data:
                yield from wanted.add(row, name, data)
            elif self.options.keep_bad_rows:
                wanted.bad.append(BadRow(row, "INVALID_ARGUMENT", f"{escaped(name)} is empty"))
            else:
                raise SourceRefused(part.files[0 if part.position else row].uri, f"{name} is empty")
        yield from wanted.end()

    def _whole(self, file: FileRef) -> bytes:
        with self.sources.open(file) as stream:
            return stream.read(file.size_bytes)

    def _loose_part(self, files: Sequence[FileRef]) -> PartSpec:
        return PartSpec(self.name, tuple(files), [], 0, len(files), sum(file.size_bytes for file in files))

    def _is_full(self, rows: int, size_bytes: int) -> bool:
        return size_bytes > self.limits.part_bytes or rows > min(self.limits.part_rows, ENTRIES_AT_ONCE)

    def _archive_parts(self, file: FileRef) -> Iterator[PartSpec]:
        """Parts of entries in the order of the archive. `position` has number, name and bytes of each entry."""
        entries: list[list[Any]] = []
        first_row = size_bytes = 0
        for entry in self._listed(file):
            if entries and self._is_full(len(entries) + 1, size_bytes + entry[2]):
                yield PartSpec(self.name, (file,), entries, first_row, len(entries), size_bytes)
                first_row, entries, size_bytes = first_row + len(entries), [], 0
            entries.append(entry)
            size_bytes += entry[2]
        if not entries and not first_row:
            raise SourceRefused(file.uri, f"holds no picture; pictures are: {', '.join(IMAGES)}")
        if entries:
            yield PartSpec(self.name, (file,), entries, first_row, len(entries), size_bytes)

    def _listed(self, file: FileRef) -> Iterator[list[Any]]:
        """Place, name and bytes of each picture of an archive, within the limits. Raises `SourceError`."""
        if not file.size_bytes:
            raise SourceRefused(file.uri, "is empty")
        total, count, names = 0, 0, set[str]()
        for place, name, size_bytes, packed_bytes in self._headers(file):
            count += 1
            total += size_bytes
            if count > self.limits.max_entries:
                raise SourceRefused(file.uri, f"more than {self.limits.max_entries} entries (limits.maxEntries)")
            if total > self.limits.max_unpacked_bytes:
                limit = self.limits.max_unpacked_bytes
                raise SourceRefused(file.uri, f"more than {limit} bytes unpacked (limits.maxUnpackedBytes)")
            if not name.lower().endswith(IMAGES):
                continue
            parts = PurePosixPath(name.replace("\\", "/"))
            if parts.is_absolute() or ".." in parts.parts:
                raise SourceRefused(file.uri, "want a name below the archive, without '..'", f"entry '{name}'")
            if name in names:
                raise SourceRefused(file.uri, "is there more than once", f"entry '{name}'")
            names.add(name)
            self._check_size(file, f"entry '{name}'", size_bytes)
            if size_bytes > max(FREE_BYTES, packed_bytes * self.limits.max_unpacked_ratio):
                text = f"{size_bytes} bytes of {packed_bytes} packed ones (limits.maxUnpackedRatio)"
                raise SourceRefused(file.uri, text, f"entry '{name}'")
            yield [place, name, size_bytes]

    def _check_size(self, file: FileRef, place: str, size_bytes: int) -> None:
        if size_bytes > self.limits.max_record_bytes:
            text = f"{size_bytes} bytes, over {self.limits.max_record_bytes} (limits.maxRecordBytes)"
            raise SourceRefused(file.uri, text, place if place != file.uri else "")

    def _headers(self, file: FileRef) -> Iterator[tuple[int, str, int, int]]:
        """Place, name, bytes and packed bytes of each file of an archive."""
        with self.sources.open(file) as stream:
            try:
                if file.uri.lower().endswith(".zip"):
                    with open_zip(file, stream) as archive:
                        for number, entry in enumerate(archive.infolist()):
                            if not entry.is_dir():
                                self._check_entry(file, entry)
                                yield number, entry.filename, entry.file_size, entry.compress_size
                    return
                for member in _tar(file, stream):
                    if member.isfile() and not member.issparse():
                        yield member.offset_data, member.name, member.size, member.size
            except _BROKEN as error:
                raise SourceError(file.uri, f"no archive that can be read: {first_line(error)}") from error

    def _check_entry(self, file: FileRef, entry: zipfile.ZipInfo) -> None:
        place = f"entry '{entry.filename}'"
        if entry.flag_bits & 1:
            raise SourceRefused(file.uri, "is encrypted", place)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise SourceRefused(file.uri, "want it stored or deflated", place)

    def _entries(self, part: PartSpec) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of the entries of a part. Raises `SourceError`."""
        file = part.files[0]
        with self.sources.open(file) as stream:
            if not file.uri.lower().endswith(".zip"):
                for place, name, size_bytes in part.position:
                    stream.seek(place)
                    yield name, _exactly(file, stream, size_bytes, f"entry '{name}'")
                return
            with open_zip(file, stream) as archive:
                directory = archive.infolist()
                for place, name, size_bytes in part.position:
                    try:
                        with archive.open(directory[place]) as entry:
                            data = _exactly(file, entry, size_bytes, f"entry '{name}'")
                            is_longer = bool(entry.read(1))  # also compares the checksum
                    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
                        raise SourceError(file.uri, f"is damaged: {first_line(error)}", f"entry '{name}'") from error
                    if is_longer:
                        text = f"is larger than the {size_bytes} bytes it says"
                        raise SourceRefused(file.uri, text, f"entry '{name}'")
                    yield name, data


class _Batches:
    """Gathers pictures into record batches of bounded bytes."""

    def __init__(self, schema: Any, batch_bytes: int) -> None:
        self._schema, self._batch_bytes = schema, batch_bytes
        self._rows: list[int] = []
        self._columns: dict[str, list[Any]] = {"name": [], "image": []}
        self._size_bytes = 0
        self.bad: list[BadRow] = []

    def add(self, row: int, name: str, data: bytes) -> Iterator[ReadBatch]:
        """Add one picture. Yields the batch before it if that is full."""
        if self._rows and self._size_bytes + len(data) > self._batch_bytes:
            yield from self.end()
        self._rows.append(row)
        self._columns["name"].append(name)
        self._columns["image"].append(data)
        self._size_bytes += len(data)

    def end(self) -> Iterator[ReadBatch]:
        if self._rows or self.bad:
            columns = [pa.array(self._columns[each.name], each.type) for each in self._schema]
            yield ReadBatch(pa.RecordBatch.from_arrays(columns, schema=self._schema), self._rows, self.bad)
        self._rows, self.bad, self._size_bytes = [], [], 0
        self._columns = {"name": [], "image": []}


class _Headers:
    """The stream of a tar, of which only headers are read. A long name may say that it has gigabytes."""

    def __init__(self, file: FileRef, stream: IO[bytes]) -> None:
        self._file, self._stream = file, stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, count: int) -> bytes:
        if count > HEADER_BYTES:
            raise SourceRefused(self._file.uri, f"a header of {count} bytes, over {HEADER_BYTES}")
        return self._stream.read(count)


def _tar(file: FileRef, stream: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """The members of a tar that is not packed. Raises `SourceRefused` if it is truncated."""
    if stream.read(2) == b"\x1f\x8b" or file.uri.lower().endswith("gz"):
        raise SourceRefused(file.uri, "is packed by gzip, in which no picture can be found alone; unpack it")
    stream.seek(0)
    headers: Any = _Headers(file, stream)
    with tarfile.open(fileobj=headers, mode="r:", errorlevel=2) as archive:
        for member in archive:
            if member.offset_data + member.size > file.size_bytes:
                raise SourceError(file.uri, "is truncated", f"entry '{member.name}'")
            yield member
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
        stream.seek(archive.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise SourceError(file.uri, "is truncated: the block that ends a tar is missing")


def _exactly(file: FileRef, stream: IO[bytes], count: int, place: str) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise SourceError(file.uri, f"ends after {len(data)} of {count} bytes", place)
    return data
