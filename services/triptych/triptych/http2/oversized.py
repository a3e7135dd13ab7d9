"""Filter of header fields that are too long for libnghttp2, so that their call fails alone.

libnghttp2 ends the connection for a name or value of more than 64 KiB as sent (NGHTTP2_HD_MAX_NV), and for a list of
fields over its limit. Either needs a header block of several frames: only such blocks are read here, one frame at a
time. HPACK (RFC 7541, 6) is parsed without its tables and without Huffman decoding. A long string is replaced. A field
that no table stores is dropped once the list is over its limit.
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

# Frames of one header block: 16 MiB, the connection window for bodies. Memory does not grow with their number.
MAX_FRAMES = 1024
UNEXPECTED = bytes(FRAME_HEADER_BYTES)  # a DATA frame within a header block: ends the connection (RFC 9113, 6.10)

STRING_BYTES = 65_536  # the longest that libnghttp2 takes, as sent

# Replaces a string that is too long. It empties the dynamic table as the original does: the table has at most 4,096
# bytes, and 64 KiB of Huffman code are at least 17,476 characters. The value is also valid as a path.
PLACEHOLDER_BYTES = 4096
PLACEHOLDER_NAME = b"\x7f\x81\x1f" + b"x" * PLACEHOLDER_BYTES
PLACEHOLDER_VALUE = b"\x7f\x81\x1f" + b"/".ljust(PLACEHOLDER_BYTES, b"x")

_start_of_frame = Struct(">IBI").unpack_from  # length and type in one, flags, stream


class HeaderFilter:
    """Follows the frames of a client. `feed` returns the bytes for libnghttp2."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes` is the limit of a list of fields, above which its call is refused anyway."""
        self.removed_bytes: dict[int, int] = {}  # from the metadata, by stream
        self.begun: set[int] = set()  # streams whose first header block began; who reads it removes them
        self._last_id = 0
        self._limit_bytes = limit_bytes
        self._ahead = PREFACE_BYTES  # bytes until the next frame
        self._kind = -1  # of the frame in which the data ends
        self._partial = b""  # an incomplete frame
        self._block: _HeaderBlock | None = None

    @property
    def is_within_block(self) -> bool:
        """Whether the data ends within a header block, of which libnghttp2 keeps the fields."""
        return self._block is not None or bool(self._partial) or (self._ahead > 0 and self._kind == HEADERS)

    def feed(self, data: memoryview) -> memoryview | bytes:
        """Return `data` itself unless a header block of several frames begins or continues in it."""
        if self._block is not None or self._partial:
            return self._filtered(data)
        at, size = self._ahead, len(data)
        last = size - FRAME_HEADER_BYTES
        while at <= last:
            start, flags, stream_id = _start_of_frame(data, at)
            self._kind = start & 0xFF
            if self._kind == HEADERS:
                if not flags & END_HEADERS:
                    return self._filtered(data)
                if stream_id > self._last_id:
                    self._last_id = stream_id
                    self.begun.add(stream_id)
            at += FRAME_HEADER_BYTES + (start >> 8)
        if at < size:
            return self._filtered(data)
        self._ahead = at - size
        return data

    def _filtered(self, new: memoryview) -> bytes:
        data, at = self._partial + new, self._ahead
        output = [data[:at]]
        while at + FRAME_HEADER_BYTES <= len(data):
            start, flags, stream_id = _start_of_frame(data, at)
            kind, size = start & 0xFF, start >> 8
            self._kind = kind
            end = at + FRAME_HEADER_BYTES + size
            begins = kind == HEADERS and not flags & END_HEADERS
            if kind == HEADERS and stream_id > self._last_id:
                self._last_id = stream_id
                self.begun.add(stream_id)
            if size <= FRAME_BYTES and (begins or (kind == CONTINUATION and self._block is not None)):
                if end > len(data):
                    break
                output.append(self._part(data[at:end]))
            else:
                self._block = None
                output.append(data[at:end])
            at = end
        self._ahead, self._partial = max(0, at - len(data)), data[at:]
        return b"".join(output)

    def _part(self, frame: bytes) -> bytes:
        """Filter a whole frame of a block. Pass on a forbidden one: libnghttp2 then ends the connection."""
        kind, flags, stream = frame[3], frame[4], frame[5:FRAME_HEADER_BYTES]
        block, self._block = self._block, None
        begin = fields = FRAME_HEADER_BYTES
        end = len(frame)
        if kind == HEADERS:
            begin, fields, end = _spans(frame)
            if block is not None or fields > end:
                return frame
            block = _HeaderBlock(stream, self._limit_bytes)
        assert block is not None
        if block.stream != stream:
            return frame
        block.frames += 1
        if block.frames > MAX_FRAMES:
            return UNEXPECTED
        sent, is_last = frame[fields:end], bool(flags & END_HEADERS)
        output = block.feed(sent, is_last)
        if not is_last:
            self._block = block
        elif block.removed_bytes:
            stream_id = int.from_bytes(stream, "big")
            self.removed_bytes[stream_id] = self.removed_bytes.get(stream_id, 0) + block.removed_bytes
        return frame if output == sent else _framed(kind, flags & ~PADDED, stream, frame[begin:fields] + output)


class _HeaderBlock:
    """Parser of the HPACK representations of one header block, piece by piece."""

    def __init__(self, stream: bytes, limit_bytes: int) -> None:
        self.stream = stream
        self.frames = 0
        self.removed_bytes = 0
        self._limit_bytes = limit_bytes
        self._size_bytes = 0  # of the list so far; indexed fields count without their strings
        self._partial = b""  # an incomplete integer
        self._strings = 0  # missing until the field is complete
        self._left_bytes = 0  # missing of the string
        self._drops_field = self._drops_string = False
        self._is_malformed = False

    def feed(self, data: bytes, is_last: bool) -> bytes:
        """Return `data` without long strings and dropped fields. Malformed HPACK is returned unchanged."""
        data, at = self._partial + data, 0
        output = bytearray()
        while at < len(data) and not self._is_malformed:
            if self._left_bytes:
                at += self._pass_string(data[at : at + self._left_bytes], output)
                continue
            try:
                value, end = _integer(data, at, 7 if self._strings else _prefix_bits(data[at]))
            except ValueError:
                self._is_malformed = True
                break
            if not end:
                break
            (self._begin_string if self._strings else self._begin_field)(value, data[at:end], output)
            at = end
        self._partial = b""
        if self._is_malformed or is_last:
            if at == len(data) and self._drops_field and self._strings:
                output += b"\0"  # keeps an incomplete field incomplete
            output += data[at:]
        else:
            self._partial = data[at:]
        return bytes(output)

    def _begin_field(self, value: int, coded: bytes, output: bytearray) -> None:
        """`coded` is the representation of the field, `value` its index in the tables."""
        is_unindexed, is_indexing = coded[0] < 0x20, 0x40 <= coded[0] < 0x80
        self._strings = (1 if value else 2) if is_unindexed or is_indexing else 0
        self._drops_field = is_unindexed and self._size_bytes > self._limit_bytes
        self._size_bytes += METADATA_ENTRY_BYTES
        if self._drops_field:
            self.removed_bytes += METADATA_ENTRY_BYTES
        else:
            output += coded

    def _begin_string(self, size: int, coded: bytes, output: bytearray) -> None:
        self._size_bytes += size
        self._left_bytes = size
        self._drops_string = self._drops_field or size > STRING_BYTES
        if self._drops_string:
            self.removed_bytes += size if self._drops_field else size - PLACEHOLDER_BYTES
        else:
            output += coded
        if not size:
            self._strings -= 1

    def _pass_string(self, piece: bytes, output: bytearray) -> int:
        self._left_bytes -= len(piece)
        if not self._drops_string:
            output += piece
        elif not self._left_bytes and not self._drops_field:
            output += PLACEHOLDER_VALUE if self._strings == 1 else PLACEHOLDER_NAME
        if not self._left_bytes:
            self._strings -= 1
        return len(piece)


def _spans(frame: bytes) -> tuple[int, int, int]:
    """Offsets of priority, fields and end of fields in a HEADERS frame."""
    begin, end, flags = FRAME_HEADER_BYTES, len(frame), frame[4]
    if flags & PADDED:
        begin, end = begin + 1, end - frame[begin] if end > begin else 0
    return begin, begin + (PRIORITY_BYTES if flags & PRIORITY else 0), end


def _prefix_bits(first: int) -> int:
    """Prefix bits of the integer in the first byte of a field."""
    if first & 0x80:
        return 7
    if first & 0x40:
        return 6
    return 5 if first & 0x20 else 4


def _integer(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer (RFC 7541, 5.1) and its end, 0 if incomplete. Raises `ValueError` over 32 bits."""
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
    """Split a part of a block into frames; none if it is empty and not the last."""
    frames = bytearray()
    while len(payload) > FRAME_BYTES:
        frames += FRAME_BYTES.to_bytes(3, "big") + bytes((kind, flags & ~END_HEADERS)) + stream + payload[:FRAME_BYTES]
        kind, flags, payload = CONTINUATION, flags & END_HEADERS, payload[FRAME_BYTES:]
    if payload or kind == HEADERS or flags & END_HEADERS:
        frames += len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream + payload
    return bytes(frames)
