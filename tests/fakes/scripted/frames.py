"""HTTP/2 frames as bytes, including frames that no library would send."""

from __future__ import annotations

import socket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK, END_STREAM, END_HEADERS, PADDED = 1, 1, 4, 8
HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE = 1, 4  # settings
MAX_WINDOW = (1 << 31) - 1
CANCEL = (8).to_bytes(4, "big")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str, *, indexed: bool = False) -> bytes:
    """Literal header field of HPACK; an indexed one can later be referenced by one byte."""
    first = b"\x40" if indexed else b"\0"
    return b"".join([first, *(integer(len(text), 7) + text.encode() for text in (name, value))])


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """HPACK integer with a prefix of `bits`, below the flags in `first` (RFC 7541, 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    made, value = bytearray((first | most,)), value - most
    while value >= 128:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes(made) + bytes((value,))


def settings(**values: int) -> bytes:
    """SETTINGS frame by names, as in `settings(INITIAL_WINDOW_SIZE=0)`."""
    numbers = {"HEADER_TABLE_SIZE": HEADER_TABLE_SIZE, "INITIAL_WINDOW_SIZE": INITIAL_WINDOW_SIZE}
    pairs = [numbers[name].to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in values.items()]
    return frame(SETTINGS, 0, 0, b"".join(pairs))


def window(stream: int, size: int) -> bytes:
    """WINDOW_UPDATE of a stream, or of the connection (0)."""
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def opening(**values: int) -> bytes:
    """Connection preface and first frames of a client."""
    return PREFACE + settings(**values)


def fields(path: str) -> dict[str, str]:
    """Header fields of a call."""
    made = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "a", "te": "trailers"}
    return {**made, "content-type": "application/grpc"}


def message(data: bytes) -> bytes:
    """Uncompressed gRPC message with its prefix."""
    return b"\0" + len(data).to_bytes(4, "big") + data


def read_frame(connection: socket.socket) -> tuple[int, int, int, bytes]:
    """Kind, flags, stream and payload of the next frame. Raises `EOFError` if there is none."""
    head = _read(connection, 9)
    length, stream = int.from_bytes(head[:3], "big"), int.from_bytes(head[5:], "big")
    return head[3], head[4], stream, _read(connection, length)


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError("the connection was closed")
        data += piece
    return data
