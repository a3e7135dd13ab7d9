"""gRPC's framing on HTTP/2: message prefix, compression, timeout, status (gRPC over HTTP2, PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from struct import Struct
from typing import Any
from urllib.parse import quote

import grpc

from triptych.errors import InvalidRequest, NotSupported, Overloaded
from triptych.http2.oversized import STRING_BYTES
from triptych.runtime.settings import METADATA_ENTRY_BYTES

PREFIX = 5  # one byte for the compressed flag, four for the length
_pack, _unpack = Struct(">BI").pack, Struct(">BI").unpack_from

_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_WINDOW_BITS = {"gzip": 31, "deflate": 15}  # zlib's numbers of the two formats
ACCEPTED = "identity,deflate,gzip"
FIRST_BYTES = 1 << 16  # decompressed on the loop: 0.1 ms
PIECE_BYTES = 1 << 20
SLICE_BYTES = 1 << 16
FREE_BYTES = 1 << 20

Headers = Sequence[tuple[bytes, bytes]]

_GRPC = b"application/grpc"
RESPONSE_HEADERS: Headers = ((b":status", b"200"), (b"content-type", _GRPC))
OK_TRAILERS: Headers = ((b"grpc-status", b"0"),)
NOT_GRPC_HEADERS: Headers = ((b":status", b"415"), (b"content-type", b"text/plain; charset=utf-8"))
NOT_GRPC_TEXT = b"want a gRPC call: POST with content-type application/grpc\n"


def is_grpc(content_type: bytes) -> bool:
    """Whether a content type is that of gRPC."""
    return content_type == _GRPC or content_type.startswith((_GRPC + b"+", _GRPC + b";"))


@lru_cache(256)
def timeout_s(text: str) -> float:
    """The seconds of a `grpc-timeout`, such as "250m"."""
    unit, digits = _UNITS_S.get(text[-1:]), text[:-1]
    if unit is None or not digits.isdecimal() or len(digits) > 8:
        raise InvalidRequest(f"grpc-timeout: want up to 8 digits and one of H M S m u n, got '{text}'")
    return int(digits) * unit


def metadata_fault(
    fields: Collection[tuple[str | bytes, str | bytes]], limit_bytes: int, removed_bytes: int = 0
) -> Overloaded | None:
    """The error for metadata over the limit, or None. `removed_bytes` counts fields too long for the transport."""
    return size_fault(metadata_bytes(fields), limit_bytes, removed_bytes)


def metadata_bytes(fields: Collection[tuple[str | bytes, str | bytes]]) -> int:
    """Size of metadata, counted as HTTP/2 does."""
    return METADATA_ENTRY_BYTES * len(fields) + sum(map(len, chain.from_iterable(fields)))


def size_fault(size_bytes: int, limit_bytes: int, removed_bytes: int = 0) -> Overloaded | None:
    """The error for metadata of a size over the limit, or None."""
    if removed_bytes:
        size_bytes, limit_bytes = size_bytes + removed_bytes, min(limit_bytes, STRING_BYTES)
    elif size_bytes <= limit_bytes:
        return None
    return Overloaded(f"received metadata larger than max ({size_bytes} vs. {limit_bytes})")


def framed(message: bytes) -> bytes:
    """A message with its prefix, not compressed."""
    return _pack(0, len(message)) + message


def is_message(data: bytes, max_bytes: int) -> bool:
    """Whether the data is one whole message with its prefix, not compressed, of at most `max_bytes` beside it."""
    if len(data) < PREFIX:
        return False
    is_compressed, size = _unpack(data)
    return not is_compressed and size == len(data) - PREFIX and size <= max_bytes


def status_headers(code: grpc.StatusCode, text: str, trailers: Iterable[tuple[str, str]]) -> Headers:
    """Trailers of a failed call; before any message they stand in place of the headers."""
    return [
        (b"grpc-status", b"%d" % code.value[0]),
        (b"grpc-message", quote(text, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~", errors="replace").encode()),
        *((key.encode(), value.encode()) for key, value in trailers),
    ]


class HeaderFields(Mapping[str, str]):
    """Fields of a header as text, decoded when they are asked for. Binary fields (`-bin`) are left out."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields

    def get(self, name: str, default: Any = None) -> Any:
        value = None if name.endswith("-bin") else self._fields.get(name.encode("latin-1", "replace"))
        return default if value is None else value.decode("latin-1")

    def __getitem__(self, name: str) -> str:
        value: str | None = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._fields if not name.endswith(b"-bin"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class MessageLimits:
    """Limits of the messages of one call: size, encoding, and compression ratio."""

    def __init__(self, max_bytes: int, encoding: str, max_ratio: int) -> None:
        self._max_bytes, self._encoding, self._max_ratio = max_bytes, encoding, max_ratio

    def length(self, prefix: bytes | bytearray) -> int:
        """Length of the message behind a prefix. Raises `Overloaded` over the limit."""
        length = int.from_bytes(prefix[1:PREFIX], "big")
        if length > self._max_bytes:
            raise Overloaded(f"received message larger than max ({length} vs. {self._max_bytes})")
        return length

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Decompress a message piece by piece. Raises `NotSupported` for an unknown encoding.

        The ratio is checked above `FREE_BYTES` only: smaller messages are harmless at any ratio.
        """
        bits = _WINDOW_BITS.get(self._encoding)
        if bits is None:
            raise NotSupported(f"grpc-encoding: want one of {ACCEPTED}, got '{self._encoding}'")
        size = 0
        try:
            for piece in _inflated(data, bits):
                size += len(piece)
                if size > self._max_bytes:
                    raise Overloaded(f"received message larger than max (over {self._max_bytes} when unpacked)")
                if size > max(FREE_BYTES, len(data) * self._max_ratio):
                    raise InvalidRequest(
                        f"want a message that is at most {self._max_ratio} times as large when unpacked, "
                        f"got one of {len(data)} bytes that is more; send it without compression"
                    )
                yield piece
        except zlib.error as error:
            raise InvalidRequest(f"the message does not match its grpc-encoding, {self._encoding}: {error}") from error


def _inflated(data: bytes, bits: int) -> Iterator[bytes]:
    """Pieces of at most `PIECE_BYTES`, the first of `FIRST_BYTES`. Input goes in by slices: zlib copies the rest."""
    decoder, most = zlib.decompressobj(bits), FIRST_BYTES
    for at in range(0, len(data), SLICE_BYTES):
        if decoder.eof:
            break
        left = data[at : at + SLICE_BYTES]
        while left:
            yield decoder.decompress(left, most)
            left, most = decoder.unconsumed_tail, PIECE_BYTES
    if not decoder.eof:
        raise zlib.error("it ends too early")
    if decoder.unused_data or at + SLICE_BYTES < len(data):
        raise zlib.error("more bytes follow its end")
