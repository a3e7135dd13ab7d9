"""Unpacked sizes of Arrow IPC messages, read from their headers before anything is unpacked.

A buffer may be compressed. Its first 8 bytes, little-endian, are its size when unpacked, or -1. pyarrow unpacks all
buffers of a message at once: 75 KB became 2.4 GB (26.0.1, 2026-12-01).

Only the fields that are needed are read, of the flatbuffers in Arrow's format/Message.fbs and File.fbs.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import IO, Final

MAX_HEADER_BYTES: Final = 64 << 20
_DICTIONARIES, _BATCHES = 2, 3  # fields of a Footer
_HEADER_TYPE, _HEADER, _BODY_BYTES = 1, 2, 3  # fields of a Message
_DATA = 1  # field of a DictionaryBatch
_BUFFERS = 2  # field of a RecordBatch
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3  # kinds of a header
_NOUNS: Final = {_DICTIONARY_BATCH: "dictionary", _RECORD_BATCH: "record batch"}
_BLOCK: Final = struct.Struct("<qi4xq")  # offset, bytes of the header, bytes of the body
_BUFFER: Final = struct.Struct("<qq")  # offset, bytes


Size = tuple[str, int]  # of a message, as in `record batch 0`, and its unpacked bytes


def file_sizes(stream: IO[bytes], size_bytes: int) -> Iterator[Size]:
    """Unpacked bytes of each dictionary and record batch that the footer of a file names. Raises `ValueError`."""
    file = _File(stream, size_bytes)
    (length,) = struct.unpack("<i", file.read(size_bytes - 10, 4))
    footer = _Table.root(file.read(size_bytes - 10 - length, length))
    for noun, field in ((_NOUNS[_DICTIONARY_BATCH], _DICTIONARIES), (_NOUNS[_RECORD_BATCH], _BATCHES)):
        for number, (offset, header_bytes, body_bytes) in enumerate(footer.structs(field, _BLOCK)):
            header = file.read(offset, header_bytes)
            skipped = 8 if header[:4] == b"\xff\xff\xff\xff" else 4
            message = _Table.root(header[skipped:])
            yield f"{noun} {number}", _unpacked(message, file, offset + header_bytes, body_bytes)


def stream_sizes(stream: IO[bytes], size_bytes: int) -> Iterator[Size]:
    """Unpacked bytes of each dictionary and record batch of a stream. Raises `ValueError`."""
    file, at, counts = _File(stream, size_bytes), 0, Counter[int]()
    while at + 4 <= size_bytes:
        (length,) = struct.unpack("<i", file.read(at, 4))
        at += 4
        if length == -1:
            (length,) = struct.unpack("<i", file.read(at, 4))
            at += 4
        if not length:
            return
        message = _Table.root(file.read(at, length))
        at, body_bytes = at + length, message.number(_BODY_BYTES, "<q")
        kind = message.number(_HEADER_TYPE, "<B")
        yield f"{_NOUNS.get(kind, 'message')} {counts[kind]}", _unpacked(message, file, at, body_bytes)
        counts[kind] += 1
        at += body_bytes


def _unpacked(message: _Table, file: _File, body: int, body_bytes: int) -> int:
    """Bytes of a message, each compressed buffer as large as it says that it becomes."""
    if body_bytes < 0:
        raise ValueError(f"a message has {body_bytes} bytes")
    kind, batch = message.number(_HEADER_TYPE, "<B"), message.table(_HEADER)
    if kind == _DICTIONARY_BATCH and batch is not None:
        batch = batch.table(_DATA)
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or batch is None:
        return body_bytes
    is_compressed = batch.table(_BUFFERS + 1) is not None
    found = 0
    for offset, length in batch.structs(_BUFFERS, _BUFFER):
        if not 0 <= offset <= offset + length <= body_bytes:
            raise ValueError(f"a buffer of {length} bytes lies outside of its message")
        (says,) = struct.unpack("<q", file.read(body + offset, 8)) if is_compressed and length else (length,)
        found += length if says < 0 else says
    return max(found, body_bytes)


class _File:
    """A file of a known size. Headers may name any place."""

    def __init__(self, stream: IO[bytes], size_bytes: int) -> None:
        self._stream, self._size_bytes = stream, size_bytes

    def read(self, at: int, length: int) -> bytes:
        """Bytes at a place. Raises `ValueError` for one outside of the file."""
        if at < 0 or not 0 <= length <= MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes at {at}")
        if at + length <= self._size_bytes:
            self._stream.seek(at)
            data = self._stream.read(length)
            if len(data) == length:
                return data
        raise ValueError(f"ends within {length} bytes at {at}")


class _Table:
    """A table of a flatbuffer. Methods raise `ValueError` for places outside of it."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, cls(data, 0)._number(0, "<I"))

    def number(self, field: int, form: str) -> int:
        """A number; 0 if it is left out."""
        place = self._place(field)
        return self._number(place, form) if place else 0

    def table(self, field: int) -> _Table | None:
        place = self._place(field)
        return _Table(self._data, place + self._number(place, "<I")) if place else None

    def structs(self, field: int, form: struct.Struct) -> Iterator[tuple[int, ...]]:
        """The items of a vector."""
        place = self._place(field)
        if not place:
            return
        vector = place + self._number(place, "<I")
        count = self._number(vector, "<I")
        if vector + 4 + count * form.size > len(self._data):
            raise ValueError(f"a list of {count} items lies outside of its header")
        yield from form.iter_unpack(self._data[vector + 4 : vector + 4 + count * form.size])

    def _place(self, field: int) -> int:
        """Place of a field; 0 if it is left out."""
        names = self._at - self._number(self._at, "<i")
        entry = 4 + 2 * field
        if entry + 2 > self._number(names, "<H"):
            return 0
        offset = self._number(names + entry, "<H")
        return self._at + offset if offset else 0

    def _number(self, at: int, form: str) -> int:
        if not 0 <= at <= len(self._data) - struct.calcsize(form):
            raise ValueError(f"a place {at} outside of {len(self._data)} bytes")
        (found,) = struct.unpack_from(form, self._data, at)
        return int(found)
