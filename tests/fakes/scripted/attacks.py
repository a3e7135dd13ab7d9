"""Attacks of a hostile client on one connection, as endless streams of bytes (RFC 9113, 10.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, repeat

from tests.fakes.scripted.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_WINDOW,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    fields,
    frame,
    integer,
    literal,
    message,
    opening,
    settings,
    window,
)
from tests.fakes.scripted.process import request

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
BATCH = 100  # frames or calls in one piece
FRAME_BYTES = 16_384
MESSAGE = message(request().SerializeToString())

Call = Callable[[int, bytes], bytes]  # the frames of one call, by its stream and header block
Pieces = Iterator[bytes]


@dataclass(frozen=True)
class Attack:
    """Bytes of a new connection in pieces, and whether the client reads the responses."""

    pieces: Callable[[], Pieces]
    reads: bool = True


def block(*extra: tuple[str, str], indexed: bool = False) -> bytes:
    """Header block of a valid call, with additional fields."""
    return b"".join(literal(name, value, indexed=indexed) for name, value in (*fields(INFER).items(), *extra))


def calls(call: Call, *extra: tuple[str, str], batch: int = BATCH) -> Pieces:
    """Calls in sequence; after the first, each header field is one byte."""
    yield opening() + call(1, block(*extra, indexed=True))
    size = len(fields(INFER)) + len(extra)
    named = bytes(0x80 | 61 + size - at for at in range(size))
    for first in count(3, 2 * batch):
        yield b"".join(call(stream, named) for stream in range(first, first + 2 * batch, 2))


def flood(made: bytes, first: bytes = b"") -> Pieces:
    """One frame repeatedly, after the opening of the connection."""
    yield opening() + first
    yield from repeat(made * BATCH)


def begun(end: int = 0) -> bytes:
    """HEADERS of stream 1."""
    return frame(HEADERS, END_HEADERS | end, 1, block())


def each_call(
    *more: Callable[[int], bytes], headers: int = END_HEADERS, extra: tuple[str, str] | None = None
) -> Pieces:
    """Calls whose headers are followed by the same frames."""

    def call(stream: int, named: bytes) -> bytes:
        return frame(HEADERS, headers, stream, named) + b"".join(made(stream) for made in more)

    return calls(call, *([extra] if extra else []))


def references() -> Pieces:
    """HPACK bomb: a field of 4,000 bytes in the table, referenced 16,000 times with one byte each: 64 MB."""
    large = literal("x", "v" * 4_000, indexed=True)
    yield opening() + frame(HEADERS, END_HEADERS | END_STREAM, 1, block() + large)
    for stream in count(3, 2):
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, block() + b"\xbe" * (FRAME_BYTES - 512))


def continued_references() -> Pieces:
    """HPACK bomb over many CONTINUATION frames of one header block."""
    large = literal("x", "v" * 4_000, indexed=True)
    yield opening() + frame(HEADERS, 0, 1, block() + large)
    yield from repeat(frame(CONTINUATION, 0, 1, b"\xbe" * FRAME_BYTES))


def table_sizes() -> Pieces:
    """Header blocks with thousands of table size updates."""
    updates = integer(0, 5, 0x20) + integer(4096, 5, 0x20)
    yield opening()
    for stream in count(1, 2):
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, updates * 2_000 + block())


def continuations(payload: bytes) -> Pieces:
    """A header block without an end."""
    return flood(frame(CONTINUATION, 0, 1, payload), frame(HEADERS, 0, 1, block()))


def priorities() -> Pieces:
    """PRIORITY frames of ever new streams, each dependent on the one before."""
    yield opening()
    for first in count(3, 2 * BATCH):
        streams = range(first, first + 2 * BATCH, 2)
        yield b"".join(frame(PRIORITY, 0, stream, (stream - 2).to_bytes(4, "big") + b"\x10") for stream in streams)


def goaways() -> Pieces:
    """GOAWAY frames of a client that continues to call."""
    leaving = frame(GOAWAY, 0, 0, bytes(8) + b"x" * 1_000)
    return each_call(lambda stream: frame(DATA, END_STREAM, stream, MESSAGE) + leaving)


def unread_answers() -> Pieces:
    """Calls with answers of 4 MiB and a window that never opens."""
    wanted = message(request("large", bytes=str(4 << 20)).SerializeToString())
    yield opening(INITIAL_WINDOW_SIZE=0)
    for stream in count(1, 2):
        yield frame(HEADERS, END_HEADERS, stream, block()) + frame(DATA, END_STREAM, stream, wanted)


def unread_streams() -> Pieces:
    """Streams of many requests each, with answers of 256 KiB and a window that never opens."""
    wanted = message(request("large", bytes=str(1 << 18)).SerializeToString()) * 18
    head = b"".join(literal(name, value) for name, value in fields(STREAM).items())
    yield opening(INITIAL_WINDOW_SIZE=0)
    for stream in count(1, 2):
        yield frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, 0, stream, wanted)


def unfinished_messages() -> Pieces:
    """Messages of 60 MiB of which 3 arrive, on four streams."""
    yield opening() + frame(SETTINGS, ACK, 0, b"")  # the server's windows hold
    head = b"".join(literal(name, value) for name, value in fields(STREAM).items())
    for stream in (1, 3, 5, 7):
        yield frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, 0, stream, b"\0" + (60 << 20).to_bytes(4, "big"))
        yield from repeat(frame(DATA, 0, stream, bytes(16_000)), 200)


def silent_streams() -> Pieces:
    """Streams of 58 KiB of metadata and no message."""
    head = b"".join(literal(name, value) for name, value in fields(STREAM).items())
    yield opening() + frame(HEADERS, END_HEADERS, 1, head + literal("x", "v" * 3_000, indexed=True))
    for stream in count(3, 2):
        yield frame(HEADERS, END_HEADERS, stream, head + b"\xbe" * 19)


def held_calls() -> Pieces:
    """Calls that are begun and never completed, more than the server allows."""
    return calls(lambda stream, named: frame(HEADERS, END_HEADERS, stream, named))


def data(payload: bytes, flags: int = 0) -> Callable[[int], bytes]:
    return lambda stream: frame(DATA, flags, stream, payload)


PADDING = b"\xff" + b"\0" * 255  # a frame of DATA that is nothing but padding

FLOODS = {
    "references to one large field": Attack(references),
    "references over CONTINUATION": Attack(continued_references),
    "sizes of the header table": Attack(table_sizes),
    "CONTINUATION without an end": Attack(lambda: continuations(literal("a", "b"))),
    "CONTINUATION of large fields": Attack(lambda: continuations(literal("a", "b" * 16_000))),
    "empty CONTINUATION": Attack(lambda: continuations(b"")),
    "SETTINGS, unread": Attack(lambda: flood(settings()), reads=False),
    "SETTINGS of windows, unread": Attack(
        lambda: flood(settings(INITIAL_WINDOW_SIZE=1) + settings(INITIAL_WINDOW_SIZE=MAX_WINDOW), begun()), reads=False
    ),
    "SETTINGS of tables": Attack(lambda: flood(settings(HEADER_TABLE_SIZE=0) + settings(HEADER_TABLE_SIZE=MAX_WINDOW))),
    "PING": Attack(lambda: flood(frame(PING, 0, 0, bytes(8)))),
    "PING, unread": Attack(lambda: flood(frame(PING, 0, 0, bytes(8))), reads=False),
    "PRIORITY": Attack(priorities),
    "empty DATA": Attack(lambda: flood(frame(DATA, 0, 1, b""), begun())),
    "DATA of padding": Attack(lambda: flood(frame(DATA, PADDED, 1, PADDING), begun())),
    "WINDOW_UPDATE of a stream": Attack(lambda: flood(window(1, 1), begun())),
    "WINDOW_UPDATE of the connection": Attack(lambda: flood(window(0, 1))),
    "frames of unknown kinds": Attack(lambda: flood(frame(0xBE, 0xFF, 0, bytes(64)) + frame(0xBF, 0, 1, b""), begun())),
    "RST_STREAM of closed streams": Attack(
        lambda: flood(frame(RST_STREAM, 0, 1, bytes(4)), begun() + frame(RST_STREAM, 0, 1, bytes(4)))
    ),
    "GOAWAY": Attack(goaways),
    "answers that are never read": Attack(unread_answers),
    "answers of streams that are never read": Attack(unread_streams),
    "silent streams of much metadata": Attack(silent_streams),
    "messages without an end": Attack(unfinished_messages),
    "calls without a message": Attack(held_calls),
    "calls without a message, unread": Attack(held_calls, reads=False),
}

# Each fills another limit: of what arrives, of open calls, of answers, of answers of streams.
ON_ALL_LIMITS = (
    "messages without an end",
    "silent streams of much metadata",
    "answers that are never read",
    "answers of streams that are never read",
)

# Errors of a stream, which a server answers with RST_STREAM while it forgets that the call is in work (CVE-2025-8671).
# Servers may end the connection for some of them.
MADE_RESETS = {
    "a window that overflows": Attack(lambda: each_call(lambda stream: window(stream, MAX_WINDOW))),
    "DATA after the end": Attack(lambda: each_call(data(MESSAGE), headers=END_HEADERS | END_STREAM)),
    "a priority of itself": Attack(
        lambda: each_call(lambda stream: frame(PRIORITY, 0, stream, stream.to_bytes(4, "big") + b"\x10"))
    ),
    "a priority of 4 bytes": Attack(lambda: each_call(lambda stream: frame(PRIORITY, 0, stream, bytes(4)))),
    "headers that HTTP/2 forbids": Attack(
        lambda: each_call(data(MESSAGE, END_STREAM), extra=("connection", "keep-alive"))
    ),
    "more DATA than content-length": Attack(
        lambda: each_call(data(MESSAGE, END_STREAM), extra=("content-length", "1"))
    ),
    "trailers without an end": Attack(
        lambda: each_call(data(MESSAGE), lambda stream: frame(HEADERS, END_HEADERS, stream, literal("a", "b")))
    ),
    "trailers with a pseudo-header": Attack(
        lambda: each_call(lambda stream: frame(HEADERS, END_HEADERS | END_STREAM, stream, literal(":path", "/")))
    ),
    "a server push from a client": Attack(
        lambda: each_call(lambda stream: frame(PUSH_PROMISE, END_HEADERS, stream, bytes(4) + literal("a", "b")))
    ),
}
