"""Answer to a call whose header fields HTTP/2 forbids.

libnghttp2 resets such a stream with PROTOCOL_ERROR and reports nothing. RFC 9113, 8.1.1 lets a server respond before
the reset. So the frame of a response goes out in front of it, and the caller reads a sentence.
"""

from __future__ import annotations

from triptych.errors import InvalidRequest
from triptych.http2.framing import Headers
from triptych.http2.oversized import END_HEADERS, FRAME_HEADER_BYTES, HEADERS

RST_STREAM, END_STREAM = 0x3, 0x1
PROTOCOL_ERROR = b"\0\0\0\1"
# A peer with a smaller dynamic table wants the first block to begin with the new size, which only libnghttp2 knows.
TABLE_BYTES = 4096

FAULT = InvalidRequest(
    "the header fields of the call are not those of HTTP/2 (RFC 9113, 8.2): want no connection, keep-alive, upgrade or "
    "transfer-encoding, no capitals in names, no blanks around values, no control characters, and an :authority"
)


def block_of(headers: Headers) -> bytes:
    """Header block (RFC 7541, 6.2.2) that neither reads nor changes the dynamic table."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in headers)


def with_answers(data: bytes, streams: set[int], block: bytes) -> bytes:
    """Whole frames, with a response before the reset of each of the streams. Streams that are reset leave the set."""
    parts, begin, at = list[bytes](), 0, 0
    while at + FRAME_HEADER_BYTES <= len(data):
        body = at + FRAME_HEADER_BYTES
        if data[at + 3] == RST_STREAM and (stream_id := int.from_bytes(data[at + 5 : body], "big")) in streams:
            streams.discard(stream_id)
            if data[body : body + 4] == PROTOCOL_ERROR:
                flags = bytes((HEADERS, END_STREAM | END_HEADERS))
                parts += (data[begin:at], len(block).to_bytes(3, "big"), flags, data[at + 5 : body], block)
                begin = at
        at = body + int.from_bytes(data[at : at + 3], "big")
    return b"".join((*parts, data[begin:])) if parts else data


def _string(text: bytes) -> bytes:
    """A string without Huffman code (RFC 7541, 5.2)."""
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    digits, size = bytearray((127,)), size - 127
    while size > 127:
        digits.append(size & 127 | 128)
        size >>= 7
    return bytes((*digits, size)) + text
