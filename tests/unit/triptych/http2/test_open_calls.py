"""Calls that wait for their callers: their memory is counted, and those that were idle the longest are evicted."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.fakes.in_memory_connection import server_of
from tests.fakes.scripted.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    RST_STREAM,
    WINDOW_UPDATE,
    frame,
)
from tests.leaks import leaves_nothing
from tests.unit.triptych.http2.test_server import Caller, begun, opening, take
from triptych.http2.call_memory import CALL_BYTES
from triptych.http2.framing import framed
from triptych.http2.server import ConnectionManager
from triptych.http2.server_context import Handler
from triptych.http2.server_stream import ServerStream
from triptych.server.http2 import _guarded

EXHAUSTED = "8"  # the gRPC code


def serve(calls: int) -> ConnectionManager:
    """A server with memory for so many calls."""
    handlers = {
        b"/x": Handler("x", _guarded(take, "x"), False),
        b"/talk": Handler("talk", _guarded(talk, "talk"), True, is_endless=True),
        b"/hold": Handler("hold", _guarded(hold, "hold"), False),
    }
    return server_of(handlers, max_bytes_in_flight=calls * (CALL_BYTES + 2_000))


async def talk(stream: ServerStream) -> None:
    async for message in stream.requests():
        await stream.answer(message)
    stream.finish(None)


async def hold(stream: ServerStream) -> None:
    stream.finish(await asyncio.sleep(60, b""))


@leaves_nothing
async def test_time_in_which_the_loop_stood_still_is_no_fault_of_a_caller() -> None:
    """A pod without CPU for some seconds ended calls whose bytes had come and were not read yet."""
    caller = Caller(server_of({b"/x": Handler("x", _guarded(take, "x"), False)}, slow_after_s=0.5))
    message = framed(bytes(100))
    await caller.send(opening(), begun("/x"), frame(DATA, 0, 1, message[:10]))
    await asyncio.sleep(0.2)  # the first checks
    time.sleep(0.8)  # the loop stands still
    await asyncio.sleep(0.12)  # the next one
    await caller.send(frame(DATA, END_STREAM, 1, message[10:]))
    assert caller.fields["grpc-status"] == "0"
    caller.connection.abort()
    await asyncio.sleep(0)


@pytest.mark.parametrize("path", ["/x", "/talk"])
@leaves_nothing
async def test_of_too_many_silent_calls_the_one_that_was_idle_the_longest_ends(path: str) -> None:
    caller = Caller(server := serve(2))
    await caller.send(opening(), begun(path, stream=1), begun(path, stream=3))
    await caller.send(frame(DATA, 0, 1, framed(bytes(9))[:8]), begun(path, stream=5))
    assert sorted(caller.connection.streams) == [1, 5]
    assert caller.fields["grpc-status"] == EXHAUSTED
    assert "idle the longest" in caller.fields["grpc-message"]
    caller.connection.abort()
    await asyncio.sleep(0)
    assert not server.waiting
    assert server.call_bytes.used_bytes == 0


@leaves_nothing
async def test_good_calls_are_answered_beside_any_number_of_silent_ones() -> None:
    silent, good = Caller(server := serve(4)), Caller(server)
    await silent.send(opening(), *(begun("/talk", stream=stream) for stream in range(1, 81, 2)))
    await good.send(opening(), begun("/x"), frame(DATA, END_STREAM, 1, framed(b"hello")))
    assert b"hello" in good.heard
    silent.connection.abort()


@leaves_nothing
async def test_a_call_in_work_is_not_evicted() -> None:
    caller = Caller(serve(1))
    await caller.send(opening(), begun("/hold"), frame(DATA, END_STREAM, 1, framed(b"")), begun("/x", stream=3))
    assert list(caller.connection.streams) == [1]
    assert "too many calls are open" in caller.fields["grpc-message"]
    caller.connection.abort()


@leaves_nothing
async def test_an_answer_that_nobody_reads_is_evicted() -> None:
    caller = Caller(server := serve(1))
    await caller.send(opening(0), begun("/x"), frame(DATA, END_STREAM, 1, framed(b"hello")))
    assert list(caller.connection.streams) == [1]
    await caller.send(begun("/x", stream=3))
    assert list(caller.connection.streams) == [3]
    assert frame(RST_STREAM, 0, 1, (8).to_bytes(4, "big")) in caller.heard
    assert server.outbound_bytes.used_bytes == 0
    caller.connection.abort()


@leaves_nothing
async def test_a_call_that_ends_before_its_handler_takes_a_step_is_answered() -> None:
    """The cancellation of a task that has not begun never reaches its code."""
    caller = Caller(server := serve(2))
    view = caller.connection.get_buffer(-1)
    data = opening() + begun("/talk")
    view[: len(data)] = data
    caller.connection.buffer_updated(len(data))
    caller.connection.streams[1].evict()
    await caller.send(frame(WINDOW_UPDATE, 0, 0, (1).to_bytes(4, "big")))
    assert not caller.connection.streams
    assert caller.fields["grpc-status"] == EXHAUSTED
    assert server.call_bytes.used_bytes == 0


@leaves_nothing
async def test_metadata_counts() -> None:
    caller = Caller(serve(4))
    large = {f"name{number}": "v" * 100 for number in range(100)}
    await caller.send(opening(), begun("/talk"), begun("/talk", stream=3), begun("/talk", END_HEADERS, 5, **large))
    assert list(caller.connection.streams) == [5]
    caller.connection.abort()


CUT = [
    pytest.param(begun("/x")[:-5], id="within a frame"),
    pytest.param(begun("/x", flags=0), id="before CONTINUATION"),
    pytest.param(begun("/x", flags=0) + frame(CONTINUATION, 0, 1, b"")[:-1], id="within CONTINUATION"),
]


@pytest.mark.parametrize("first", CUT)
@leaves_nothing
async def test_of_too_many_unfinished_header_blocks_the_oldest_connection_ends(first: bytes) -> None:
    server = server_of({b"/x": Handler("x", _guarded(take, "x"), False)}, max_bytes_in_flight=2 * 2 * 256 << 10)
    callers = [Caller(server) for _ in range(4)]
    await callers[0].send(opening(), begun("/x", flags=0), frame(CONTINUATION, END_HEADERS, 1, b""))
    for caller in callers[1:]:
        await caller.send(opening(), first)
    assert [caller.wire.is_closing() for caller in callers] == [False, True, False, False]
    await callers[0].send(frame(DATA, END_STREAM, 1, framed(b"hello")))
    assert b"hello" in callers[0].heard


@leaves_nothing
async def test_a_body_that_is_cut_is_no_header_block() -> None:
    server = server_of({b"/x": Handler("x", _guarded(take, "x"), False)}, max_bytes_in_flight=2 * 256 << 10)
    callers = [Caller(server) for _ in range(3)]
    for caller in callers:
        await caller.send(opening(), begun("/x"), frame(DATA, END_STREAM, 1, framed(b"hello"))[:-2])
    for caller in callers:
        await caller.send(framed(b"hello")[-2:])
        assert b"hello" in caller.heard
