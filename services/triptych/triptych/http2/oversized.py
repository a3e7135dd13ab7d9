"""Header fields that are too long for libnghttp2, taken out before it sees them: their call then fails alone.

A name or value of more than 64 KiB as sent (NGHTTP2_HD_MAX_NV) ends the connection in libnghttp2, and so does a list of
fields over its limit. Either needs a header block of several frames: only such blocks are looked at here, and no more
than one frame is held. HPACK (RFC 7541, 6) is followed without its tables and without Huffman decoding: a long string
is replaced, and a field that no table keeps is dropped behind the limit of the list.
"""

from __future__ import annotations

from struct import Struct

from triptych.runtime.settings import METADATA_ENTRY_BYTES

PREFACE_BYTES = 24
FRAME_HEADER_BYTES = 9
FRAME_BYTES = 16_384  # the largest that a client may send here (RFC 9113, 4.2)
HEADERS, CONTINUATION = 0x1, 0x9
END_HEADERS, PADDED, PRIORITY = 0x4, 0x8, 0x20
PRIORITY_BYTES = 5

# Frames of one header block: 16 MiB, as much as a peer may send of bodies unread. Memory is the same for any number.
MAX_FRAMES = 1024
UNEXPECTED = bytes(FRAME_HEADER_BYTES)  # a DATA frame within a header block: ends the connection (RFC 9113, 6.10)

STRING_BYTES = 65_536  # the longest that libnghttp2 takes, as sent

# In place of a string that is too long. A field so large empties the dynamic table, as the original does: the table has
# 4,096 bytes at most, and 64 KiB of Huffman code are 17,476 characters at least. The value is right for a path as well.
STAND_IN_BYTES = 4096
STAND_IN_NAME = b"\x7f\x81\x1f" + b"x" * STAND_IN_BYTES
STAND_IN_VALUE = b"\x7f\x81\x1f" + b"/".ljust(STAND_IN_BYTES, b"x")

_start_of_frame = Struct(">IB").unpack_from  # length and type in one, flags


class HeaderFilter:
    """Follows the frames of a client; `feed` gives what libnghttp2 is to have."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes`: of a list of fields, above which its call is refused anyway."""
        self.left_out: dict[int, int] = {}  # bytes that are missing from the metadata of a stream
        self._limit_bytes = limit_bytes
        self._ahead = PREFACE_BYTES  # bytes until the next frame begins
        self._held = b""  # the beginning of a frame
        self._block: _Block | None = None

    def feed(self, data: memoryview) -> memoryview | bytes:
        """`data` itself, unless a header block of several frames begins in it or goes on."""
        if self._block is not None or self._held:
            return self._filtered(data)
        at, size = self._ahead, len(data)
        last = size - FRAME_HEADER_BYTES
        while at <= last:
            start, flags = _start_of_frame(data, at)
            if start & 0xFF == HEADERS and not flags & END_HEADERS:
                return self._filtered(data)
            at += FRAME_HEADER_BYTES + (start >> 8)
        if at < size:
            return self._filtered(data)
        self._ahead = at - size
        return data

    def _filtered(self, new: memoryview) -> bytes:
        data, at = self._held + new, self._ahead
        given = [data[:at]]
        while at + FRAME_HEADER_BYTES <= len(data):
            start, flags = _start_of_frame(data, at)
            kind, size = start & 0xFF, start >> 8
            end = at + FRAME_HEADER_BYTES + size
            begins = kind == HEADERS and not flags & END_HEADERS
            if size <= FRAME_BYTES and (begins or (kind == CONTINUATION and self._block is not None)):
                if end > len(data):
                    break
                given.append(self._part(data[at:end]))
            else:
                self._block = None
                given.append(data[at:end])
            at = end
        self._ahead, self._held = max(0, at - len(data)), data[at:]
        return b"".join(given)

    def _part(self, frame: bytes) -> bytes:
        """A whole frame of a block. Any that HTTP/2 forbids is passed on, for libnghttp2 to end the connection."""
        kind, flags, stream = frame[3], frame[4], frame[5:FRAME_HEADER_BYTES]
        block, self._block = self._block, None
        begin = fields = FRAME_HEADER_BYTES
        end = len(frame)
        if kind == HEADERS:
            begin, fields, end = _spans(frame)
            if block is not None or fields > end:
                return frame
            block = _Block(stream, self._limit_bytes)
        assert block is not None
        if block.stream != stream:
            return frame
        block.frames += 1
        if block.frames > MAX_FRAMES:
            return UNEXPECTED
        sent, is_last = frame[fields:end], bool(flags & END_HEADERS)
        given = block.feed(sent, is_last)
        if not is_last:
            self._block = block
        elif block.left_out_bytes:
            stream_id = int.from_bytes(stream, "big")
            self.left_out[stream_id] = self.left_out.get(stream_id, 0) + block.left_out_bytes
        return frame if given == sent else _framed(kind, flags & ~PADDED, stream, frame[begin:fields] + given)


class _Block:
    """The HPACK representations of one header block, as their bytes come."""

    def __init__(self, stream: bytes, limit_bytes: int) -> None:
        self.stream = stream
        self.frames = 0
        self.left_out_bytes = 0
        self._limit_bytes = limit_bytes
        self._size_bytes = 0  # of the list so far; fields of the tables count without their strings
        self._held = b""  # of an integer
        self._strings = 0  # that are to come until the field is complete
        self._left_bytes = 0  # of the string
        self._drops_field = self._drops_string = False
        self._is_malformed = False

    def feed(self, data: bytes, is_last: bool) -> bytes:
        """The rest of `data`; a part that is not complete, or no HPACK, stays as it is."""
        data, at = self._held + data, 0
        given = bytearray()
        while at < len(data) and not self._is_malformed:
            if self._left_bytes:
                at += self._pass_string(data[at : at + self._left_bytes], given)
                continue
            try:
                value, end = _integer(data, at, 7 if self._strings else _prefix_bits(data[at]))
            except ValueError:
                self._is_malformed = True
                break
            if not end:
                break
            (self._begin_string if self._strings else self._begin_field)(value, data[at:end], given)
            at = end
        self._held = b""
        if self._is_malformed or is_last:
            if at == len(data) and self._drops_field and self._strings:
                given += b"\0"  # a field that is not complete either
            given += data[at:]
        else:
            self._held = data[at:]
        return bytes(given)

    def _begin_field(self, value: int, coded: bytes, given: bytearray) -> None:
        """`coded` says what the field is, and its index in the tables: `value`."""
        is_unindexed, is_indexing = coded[0] < 0x20, 0x40 <= coded[0] < 0x80
        self._strings = (1 if value else 2) if is_unindexed or is_indexing else 0
        self._drops_field = is_unindexed and self._size_bytes > self._limit_bytes
        self._size_bytes += METADATA_ENTRY_BYTES
        if self._drops_field:
            self.left_out_bytes += METADATA_ENTRY_BYTES
        else:
            given += coded

    def _begin_string(self, size: int, coded: bytes, given: bytearray) -> None:
        self._size_bytes += size
        self._left_bytes = size
        self._drops_string = self._drops_field or size > STRING_BYTES
        if self._drops_string:
            self.left_out_bytes += size if self._drops_field else size - STAND_IN_BYTES
        else:
            given += coded
        if not size:
            self._strings -= 1

    def _pass_string(self, piece: bytes, given: bytearray) -> int:
        self._left_bytes -= len(piece)
        if not self._drops_string:
            given += piece
        elif not self._left_bytes and not self._drops_field:
            given += STAND_IN_VALUE if self._strings == 1 else STAND_IN_NAME
        if not self._left_bytes:
            self._strings -= 1
        return len(piece)


def _spans(frame: bytes) -> tuple[int, int, int]:
    """Offsets in a HEADERS frame: of its priority, of its fields, and of their end before padding."""
    begin, end, flags = FRAME_HEADER_BYTES, len(frame), frame[4]
    if flags & PADDED:
        begin, end = begin + 1, end - frame[begin] if end > begin else 0
    return begin, begin + (PRIORITY_BYTES if flags & PRIORITY else 0), end


def _prefix_bits(first: int) -> int:
    """Bits of the integer that the first byte of a field begins."""
    if first & 0x80:
        return 7
    if first & 0x40:
        return 6
    return 5 if first & 0x20 else 4


def _integer(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """The integer (RFC 7541, 5.1) and its end, 0 when it is not complete. Raises `ValueError` over 32 bits."""
    most = (1 << bits) - 1
    value = data[at] & most
    if value < most:
        return value, at + 1
    for shift, byte in enumerate(data[at + 1 : at + 6]):
        value += (byte & 0x7F) << (7 * shift)
        if value >= 1 << 32:
            break
        if byte < 0x80:
            return value, at + 2 + shift
    else:
        if len(data) < at + 6:
            return 0, 0
    raise ValueError("want an integer of at most 32 bits")


def _framed(kind: int, flags: int, stream: bytes, payload: bytes) -> bytes:
    """Puts a part of a block into frames, into none if it is empty and not the last."""
    frames = bytearray()
    while len(payload) > FRAME_BYTES:
        frames += FRAME_BYTES.to_bytes(3, "big") + bytes((kind, flags & ~END_HEADERS)) + stream + payload[:FRAME_BYTES]
        kind, flags, payload = CONTINUATION, flags & END_HEADERS, payload[FRAME_BYTES:]
    if payload or kind == HEADERS or flags & END_HEADERS:
        frames += len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream + payload
    return bytes(frames)
