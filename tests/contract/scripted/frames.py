"""HTTP/2 as bytes, for what no library would send."""

from __future__ import annotations

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE = 0, 1, 3, 4, 8
ACK = 1
END_STREAM, END_HEADERS = 1, 4
CANCEL = (8).to_bytes(4, "big")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str, *, indexed: bool = False) -> bytes:
    """A header field of HPACK; an indexed one is later named by one byte."""
    first = b"\x40" if indexed else b"\0"
    return b"".join([first, *(bytes((len(text),)) + text.encode() for text in (name, value))])


def opening() -> bytes:
    """What a client sends first."""
    return PREFACE + frame(SETTINGS, 0, 0, b"")


def fields(path: str) -> dict[str, str]:
    """The header fields of a call."""
    made = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "a", "te": "trailers"}
    return {**made, "content-type": "application/grpc"}
