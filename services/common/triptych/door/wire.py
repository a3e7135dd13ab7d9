"""gRPC's words on HTTP/2: the prefix of a message, the timeout, the status (gRPC over HTTP2, PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable
from urllib.parse import quote

import grpc

from triptych.errors import InvalidRequest, NotSupported, Overloaded

PREFIX = 5  # one byte says whether the message is compressed, four are its length

_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_WINDOW_BITS = {"gzip": 31, "deflate": 15}  # zlib's names for the two formats
ACCEPTED = "identity,deflate,gzip"

Headers = list[tuple[bytes, bytes]]


def timeout_s(text: str) -> float:
    """The seconds of a `grpc-timeout`, such as "250m"."""
    unit, digits = _UNITS_S.get(text[-1:]), text[:-1]
    if unit is None or not digits.isdecimal() or len(digits) > 8:
        raise InvalidRequest(f"grpc-timeout: want up to 8 digits and one of H M S m u n, got '{text}'")
    return int(digits) * unit


def framed(message: bytes) -> bytes:
    """A message as it travels, not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def status_headers(code: grpc.StatusCode, text: str, trailers: Iterable[tuple[str, str]]) -> Headers:
    """The end of a call that failed, as trailers or, before any message, in place of the headers."""
    return [
        (b"grpc-status", b"%d" % code.value[0]),
        (b"grpc-message", quote(text, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()),
        *((key.encode(), value.encode()) for key, value in trailers),
    ]


class Limits:
    """What one call may send: how large a message, and in which encoding."""

    def __init__(self, max_bytes: int, encoding: str) -> None:
        self._max_bytes, self._encoding = max_bytes, encoding

    def length(self, prefix: bytes | bytearray) -> int:
        """How long the message behind a prefix is."""
        length = int.from_bytes(prefix[1:PREFIX], "big")
        if length > self._max_bytes:
            raise Overloaded(f"received message larger than max ({length} vs. {self._max_bytes})")
        return length

    def message(self, flag: int, data: bytes) -> bytes:
        """The message itself. Raises `NotSupported` for an encoding that is not known here."""
        if not flag:
            return data
        bits = _WINDOW_BITS.get(self._encoding)
        if bits is None:
            raise NotSupported(f"grpc-encoding: want one of {ACCEPTED}, got '{self._encoding}'")
        decoder = zlib.decompressobj(bits)
        try:
            plain = decoder.decompress(data, self._max_bytes + 1)
        except zlib.error as error:
            raise InvalidRequest(f"the message is not what grpc-encoding says, {self._encoding}: {error}") from error
        if len(plain) > self._max_bytes:
            raise Overloaded(f"received message larger than max (over {self._max_bytes} when unpacked)")
        return plain


async def messages(chunks: AsyncIterator[bytes], limits: Limits) -> AsyncIterator[bytes]:
    """The messages of a stream, however it was cut into pieces."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= PREFIX and len(held) >= (end := PREFIX + limits.length(held)):
            with memoryview(held) as view:
                message = limits.message(view[0], bytes(view[PREFIX:end]))
            del held[:end]
            yield message
    if held:
        raise InvalidRequest(f"the stream ended within a message, after {len(held)} bytes of it")
