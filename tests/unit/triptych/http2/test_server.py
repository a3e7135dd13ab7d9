"""The server's side of a connection, without a socket, with callers that stop halfway."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import pytest
from hpack import Decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.in_memory_connection import Wire, server_of
from tests.fakes.scripted.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from tests.leaks import leaves_nothing
from triptych.errors import Draining
from triptych.http2 import connection as connection_module
from triptych.http2 import server as server_module
from triptych.http2.framing import framed, status_headers
from triptych.http2.server import ConnectionManager, ServerConnection
from triptych.http2.server_context import Handler
from triptych.http2.server_stream import ServerStream
from triptych.server.http2 import _guarded

WINDOW = b"\0\4"  # the name of the setting


def opening(window: int = 1 << 20) -> bytes:
    return PREFACE + frame(SETTINGS, 0, 0, WINDOW + window.to_bytes(4, "big"))


def begun(path: str, flags: int = END_HEADERS, stream: int = 1, **other: str) -> bytes:
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "a"}
    fields = {**fields, "content-type": "application/grpc", **{name.replace("_", "-"): other[name] for name in other}}
    fields[":method"] = fields.pop("method", "POST")
    ordered = sorted(fields.items(), key=lambda field: field[0][0] != ":")
    block = b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode() for name, value in ordered
    )
    return frame(HEADERS, flags, stream, block)


class Caller:
    """A connection of which a test writes every byte."""

    def __init__(self, server: ConnectionManager) -> None:
        self.connection: ServerConnection = server.connect()
        self.wire = Wire(self.connection)
        self.connection.connection_made(self.wire)

    async def send(self, *frames: bytes) -> None:
        data = b"".join(frames)
        view = self.connection.get_buffer(-1)
        for at in range(0, len(data), len(view)):
            piece = data[at : at + len(view)]
            view[: len(piece)] = piece
            self.connection.buffer_updated(len(piece))
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def heard(self) -> bytes:
        return bytes(self.wire.waiting)

    @property
    def fields(self) -> dict[str, str]:
        """Fields of all headers and trailers."""
        decoder, data, fields = Decoder(), self.heard, dict[str, str]()
        while data:
            end = 9 + int.from_bytes(data[:3], "big")
            if data[3] == HEADERS:
                fields |= {str(name): str(value) for name, value in decoder.decode(data[9:end])}
            data = data[end:]
        return fields


async def answer_twice(stream: ServerStream) -> None:
    await stream.message()
    await stream.answer(bytes(1000))
    stream.finish(bytes(1000))


async def take(stream: ServerStream) -> None:
    stream.finish(await stream.message())


def serve(
    answer: Callable[[ServerStream], Coroutine[Any, Any, None]] = take, *, streams: bool = False, **settings: Any
) -> ConnectionManager:
    return server_of({b"/x": Handler("x", _guarded(answer, "x"), streams)}, **settings)


@pytest.mark.parametrize(
    "first",
    [
        begun("/x", method="GET"),
        begun("/x", content_type="text/plain"),
        begun("/x", content_type="application/grpc-web"),
        begun("/x", content_type="application/grpcx"),
    ],
    ids=["GET", "a text", "gRPC-Web", "a like name"],
)
@leaves_nothing
async def test_what_is_no_call_may_go_on_while_its_answer_waits_for_windows(first: bytes) -> None:
    """`assert self.handler is not None` in a callback of the protocol ended the connection."""
    caller = Caller(server := serve())
    await caller.send(opening(0), first, frame(DATA, 0, 1, b"more"), frame(DATA, END_STREAM, 1, b"and more"))
    assert caller.fields[":status"] == "415"
    assert caller.connection.streams
    assert not caller.wire.is_closing()
    await caller.send(frame(WINDOW_UPDATE, 0, 1, (1000).to_bytes(4, "big")))
    assert b"want a gRPC call" in caller.heard
    assert not caller.connection.streams
    assert server.outbound_bytes.used_bytes == 0


@leaves_nothing
async def test_a_read_is_small_and_thousands_of_resets_end_no_connection() -> None:
    """libnghttp2 ends a connection after 1,000 resets by itself, and with it the other calls of its caller."""
    caller = Caller(serve())
    assert len(caller.connection.get_buffer(1 << 30)) == 1 << 16  # then others are read
    reset = (begun("/x", stream=stream) + frame(RST_STREAM, 0, stream, bytes(4)) for stream in range(1, 10_000, 2))
    await caller.send(opening(), *reset)
    await caller.send(begun("/x", stream=10_001), frame(DATA, END_STREAM, 10_001, framed(b"hello")))
    assert b"hello" in caller.heard
    assert not caller.wire.is_closing()
    caller.connection.abort()
    await asyncio.sleep(0)


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto", "application/grpc;charset=x"])
@leaves_nothing
async def test_names_of_grpc_are_taken(content_type: str) -> None:
    caller = Caller(serve())
    call = begun("/x", content_type=content_type)
    await caller.send(opening(), call, frame(DATA, END_STREAM, 1, framed(b"hello")))
    assert b"hello" in caller.heard


@pytest.mark.parametrize("window", [0, 1, 500, 1500])
@leaves_nothing
async def test_an_answer_that_waits_when_its_call_is_ended_releases_its_bytes_once(window: int) -> None:
    caller = Caller(server := serve(answer_twice))
    await caller.send(opening(window), begun("/x"), frame(DATA, END_STREAM, 1, framed(b"")))
    assert server.outbound_bytes.used_bytes > 0
    caller.connection.streams[1].abort(Draining("it ends"))
    await asyncio.sleep(0.01)
    await caller.send(frame(WINDOW_UPDATE, 0, 1, (1 << 20).to_bytes(4, "big")))
    assert not caller.connection.streams
    assert server.outbound_bytes.used_bytes == 0


@pytest.mark.parametrize("leave", ["reset", "lost"])
@leaves_nothing
async def test_a_message_that_is_unpacked_when_its_caller_leaves_releases_its_bytes_once(leave: str) -> None:
    caller = Caller(server := serve(max_unpacked_ratio=100_000))
    packed = gzip.compress(bytes(8 << 20))
    message = b"\1" + len(packed).to_bytes(4, "big") + packed
    await caller.send(opening(), begun("/x", grpc_encoding="gzip"), frame(DATA, END_STREAM, 1, message))
    assert server.inbound_bytes.used_bytes > len(message)
    if leave == "reset":
        await caller.send(frame(RST_STREAM, 0, 1, bytes((0, 0, 0, 8))))
    else:
        caller.connection.abort()
    await asyncio.sleep(0.05)
    assert server.inbound_bytes.used_bytes == 0


@pytest.mark.parametrize(
    "pieces",
    [(framed(b"a") * 2,), (framed(b"a"), framed(b"b")), (framed(b""),) * 2],
    ids=["in one piece", "in two", "empty"],
)
@leaves_nothing
async def test_a_second_message_of_a_unary_call_ends_it_at_once(pieces: tuple[bytes, ...]) -> None:
    """Empty messages had no limit: each restarted the minimum rate, and took five bytes of the limit in flight."""
    caller = Caller(server := serve())
    await caller.send(opening(), begun("/x"), *[frame(DATA, 0, 1, piece) for piece in pieces])
    assert caller.fields["grpc-message"] == "want one message, got 2"
    assert not caller.connection.streams
    assert server.inbound_bytes.used_bytes == 0


@leaves_nothing
async def test_messages_that_wait_count_their_overhead_beside_their_bytes() -> None:
    released = asyncio.Event()

    async def wait(stream: ServerStream) -> None:
        await released.wait()
        stream.finish(b"%d" % len([each async for each in stream.requests()]))

    caller = Caller(server := serve(wait, streams=True))
    await caller.send(opening(), begun("/x"), frame(DATA, 0, 1, framed(b"") * 3000))
    assert server.inbound_bytes.used_bytes > 3000 * 64
    released.set()
    await caller.send(frame(DATA, END_STREAM, 1, b""))
    await asyncio.sleep(0.01)
    assert b"3000" in caller.heard
    assert server.inbound_bytes.used_bytes == 0


@leaves_nothing
async def test_what_comes_for_a_call_that_has_its_answer_takes_no_limit() -> None:
    async def early(stream: ServerStream) -> None:
        stream.finish(bytes(100))

    caller = Caller(server := serve(early, streams=True))
    await caller.send(opening(0), begun("/x"))
    await caller.send(frame(DATA, 0, 1, framed(bytes(10_000))))
    assert caller.connection.streams
    assert server.inbound_bytes.used_bytes == 0


@leaves_nothing
async def test_a_call_may_read_and_wait_for_its_caller_to_read_at_once() -> None:
    """One future for both: the one that came first was never woken."""
    got: list[bytes] = []

    async def both(stream: ServerStream) -> None:
        async def read() -> None:
            got.extend([each async for each in stream.requests()])

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        await stream.answer(bytes(100))
        await reading
        stream.finish(b"both")

    caller = Caller(serve(both, streams=True))
    await caller.send(opening(0), begun("/x"))
    await caller.send(frame(DATA, 0, 1, framed(b"one")))
    await caller.send(frame(WINDOW_UPDATE, 0, 1, (1000).to_bytes(4, "big")))
    await caller.send(frame(DATA, END_STREAM, 1, framed(b"two")))
    await asyncio.sleep(0.01)
    assert got == [b"one", b"two"]
    assert b"both" in caller.heard
    assert not caller.connection.streams


@leaves_nothing
async def test_an_answer_that_nobody_reads_is_not_counted_as_given() -> None:
    codes: list[str] = []

    async def large(stream: ServerStream) -> None:
        await stream.message()
        stream.finish(bytes(1000), codes.append)

    caller = Caller(server := serve(large, slow_after_s=0.05, min_bytes_per_s=1000))
    await caller.send(opening(0), begun("/x"), frame(DATA, END_STREAM, 1, framed(b"")))
    async with asyncio.timeout(30):
        while not codes:
            await asyncio.sleep(0.01)
    assert codes == ["DEADLINE_EXCEEDED"]
    assert server.outbound_bytes.used_bytes == 0


@leaves_nothing
async def test_a_handler_whose_work_is_cancelled_from_within_answers() -> None:
    async def cancelled(stream: ServerStream) -> None:
        raise asyncio.CancelledError

    caller = Caller(serve(cancelled))
    await caller.send(opening(), begun("/x"), frame(DATA, END_STREAM, 1, framed(b"")))
    assert caller.fields["grpc-status"] == "13"
    assert not caller.connection.streams


@pytest.mark.parametrize(
    "first", [b"", b"P", PREFACE, PREFACE + bytes(8)], ids=["nothing", "a byte", "the preface", "half a frame"]
)
@leaves_nothing
async def test_a_connection_that_does_not_begin_ends(first: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "HANDSHAKE_S", 0.02)
        caller = Caller(server := serve())
        if first:
            await caller.send(first)
        async with asyncio.timeout(30):
            while server.connections:
                await asyncio.sleep(0.01)
        assert caller.connection.is_closed


@leaves_nothing
async def test_each_connection_over_the_limit_closes_another() -> None:
    server = serve(max_connections=2)
    callers = [Caller(server) for _ in range(6)]  # the loop has not yet reported to any that it is gone
    assert len(server.connections) == 2
    assert [caller.wire.is_closing() for caller in callers] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("begins", ["before", "after", "never"])
@leaves_nothing
async def test_a_connection_that_is_new_when_the_server_leaves_leaves_too(begins: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "GOAWAY_ACK_S", 0.02)
        server = serve()
        caller = Caller(server)
        if begins == "never":
            server.drain()
            caller = Caller(server)  # its handshake was not over
        else:
            if begins == "before":
                await caller.send(opening())
            server.drain()
            if begins == "after":
                await caller.send(opening())
        caller.wire.waiting.clear()
        async with asyncio.timeout(30):
            while not caller.connection.is_closed:
                await asyncio.sleep(0.01)
        assert not caller.wire.is_closing()  # until its peer closes it
        caller.wire.close()
        await asyncio.sleep(0)


@leaves_nothing
async def test_what_a_peer_does_not_read_of_a_closed_connection_is_dropped() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection_module, "CLOSE_S", 0.02)
        caller = Caller(server := serve())
        caller.connection.close()
        assert not caller.connection.is_lost
        assert caller.wire.waiting
        async with asyncio.timeout(30):
            while not caller.connection.is_lost:
                await asyncio.sleep(0.01)
        assert not server.connections


def test_a_sentence_with_half_a_character_is_sent() -> None:
    assert dict(status_headers(grpc.StatusCode.INTERNAL, "no '\ud800'", ()))[b"grpc-message"] == b"no '?'"


FRAMES = st.builds(
    frame,
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0xFF]),
    st.sampled_from([0, 1, 3, 5]),
    st.one_of(st.binary(max_size=20), st.sampled_from([bytes(4), bytes(5), bytes(8), b"\0\4\0\0\0\0", framed(b"abc")])),
)
CALLS = st.builds(
    begun, st.sampled_from(["/x", "/y", "x"]), st.sampled_from([END_HEADERS, END_HEADERS | END_STREAM]), st.just(1)
)


@settings(max_examples=200, deadline=None)
@given(window=st.sampled_from([0, 3, 1 << 20]), frames=st.lists(st.one_of(FRAMES, CALLS), max_size=12))
async def test_nothing_that_a_caller_sends_raises(window: int, frames: list[bytes]) -> None:
    @leaves_nothing
    async def run() -> None:
        for streams in (False, True):
            caller = Caller(server := serve(streams=streams))
            await caller.send(opening(window))
            for each in frames:
                if not caller.wire.is_closing():
                    await caller.send(each)
            caller.connection.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not caller.connection.streams
            assert not server.connections
            assert (server.inbound_bytes.used_bytes, server.outbound_bytes.used_bytes) == (0, 0)

    await run()
