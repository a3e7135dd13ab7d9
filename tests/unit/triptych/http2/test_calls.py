"""Calls of our client to our server over arbitrary pieces of bytes, while either side cancels, resets and closes."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.in_memory_connection import Wire, carry_all, server_of, wire
from tests.fakes.scripted.frames import END_HEADERS, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, frame
from tests.leaks import leaves_nothing
from triptych.errors import Draining, NotSupported
from triptych.http2.client import ClientConnection
from triptych.http2.client_stream import CallFailed, LastingCall
from triptych.http2.server import ConnectionManager, ServerConnection
from triptych.http2.server_context import Handler
from triptych.http2.server_stream import ServerStream

BASE = ((b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b"content-type", b"application/grpc"))
REPEATS = 3


class Methods:
    """The server's part of one run, and its outcome."""

    def __init__(self, begins_at_once: bool) -> None:
        self.begins_at_once = begins_at_once  # whether handlers begin before their tasks
        self.released = asyncio.Event()
        self.finished = 0
        self.on_settled: Counter[int] = Counter()  # number of notifications of the end by finished call

    def handlers(self) -> dict[bytes, Handler]:
        methods = {"echo": self.echo, "hold": self.hold, "fail": self.fail, "repeat": self.repeat}
        found = {
            f"/{name}".encode(): Handler(name, _guarded(answer), False, begins_at_once=self.begins_at_once)
            for name, answer in methods.items()
        }
        return {**found, b"/early": Handler("early", _guarded(self.early), True)}

    async def echo(self, stream: ServerStream) -> None:
        self.finish(stream, await stream.message())

    async def hold(self, stream: ServerStream) -> None:
        message = await stream.message()
        await self.released.wait()
        self.finish(stream, message)

    async def fail(self, stream: ServerStream) -> None:
        raise NotSupported("it fails")

    async def repeat(self, stream: ServerStream) -> None:
        message = await stream.message()
        for _ in range(REPEATS):
            await stream.answer(message)
        self.finish(stream, None)

    async def early(self, stream: ServerStream) -> None:
        """End before the caller has sent all."""
        self.finish(stream, b"early" * 1000)

    def finish(self, stream: ServerStream, message: bytes | None) -> None:
        self.finished += 1
        number = self.finished

        def on_settled(_code: str) -> None:
            self.on_settled[number] += 1

        stream.finish(message, on_settled)


def _guarded(answer: Any) -> Any:
    async def guarded(stream: ServerStream) -> None:
        try:
            await answer(stream)
        except asyncio.CancelledError:
            if stream.abort_reason is not None:
                stream.refuse(stream.abort_reason, "x")
        except Exception as error:
            stream.refuse(error, "x")

    return guarded


class Run:
    """A server, a client, and the calls between them."""

    def __init__(self, limit_bytes: int, begins_at_once: bool) -> None:
        self.methods = Methods(begins_at_once)
        self.server: ConnectionManager = server_of(
            self.methods.handlers(),
            max_bytes_in_flight=limit_bytes,
            max_message_bytes=1 << 20,
            max_concurrent_streams=8,
        )
        self.client = ClientConnection(bytearray(1 << 16), lambda _connection: None)
        self.accepted: ServerConnection = self.server.connect()
        self.up, self.down = wire(self.client, self.accepted)
        self.calls: list[tuple[str, int, asyncio.Task[list[bytes]]]] = []
        self.cancelled: set[int] = set()
        self.lasting: list[LastingCall] = []
        self.ended: Counter[int] = Counter()  # notifications of the end by lasting call

    def call(self, name: str, size: int) -> None:
        self.calls.append((name, size, asyncio.ensure_future(self._call(name, size))))

    async def _call(self, name: str, size: int) -> list[bytes]:
        headers = (*BASE[:3], (b":path", b"/" + name.removeprefix("lasting ").encode()), BASE[3])
        if name.startswith("lasting "):
            number = len(self.lasting)
            self.lasting.append(LastingCall(120, lambda: self.ended.update([number])))
            return [await self.client.unary(headers, bytes(size), 60, self.lasting[number])]
        if name == "repeat":
            return [each async for each in self.client.stream(headers, bytes(size))]
        return [await self.client.unary(headers, bytes(size), 60)]

    async def do(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("call", name, size):
                self.call(name, size)
                await asyncio.sleep(0)
            case ("carry", up, size):
                (self.up if up else self.down).carry(size)
                await asyncio.sleep(0)
            case ("cancel", at) if self.calls:
                self.calls[at % len(self.calls)][2].cancel()
                self.cancelled.add(at % len(self.calls))
                await asyncio.sleep(0)
            case ("end",):
                for stream in self.server.streams:
                    stream.abort(Draining("it ends"))
            case ("release",):
                self.methods.released.set()
            case ("drain",):
                self.accepted.drain()
            case ("go away",):
                self.accepted.go_away()
            case ("retire",):
                self.client.retire()
            case ("abort", up):
                (self.client if up else self.accepted).abort()

    async def check(self) -> None:
        self.methods.released.set()
        await carry_all(self.up, self.down)
        for at, (name, size, call) in enumerate(self.calls):
            assert call.done(), f"{name} of {size} bytes is not over"
            if call.cancelled():
                assert at in self.cancelled
                continue
            with suppress(CallFailed):
                wanted = {"repeat": [bytes(size)] * REPEATS, "early": [b"early" * 1000]}.get(name, [bytes(size)])
                assert call.result() == wanted
                assert name != "fail"
        assert (self.server.inbound_bytes.used_bytes, self.server.outbound_bytes.used_bytes) == (0, 0)
        assert not self.accepted.streams
        assert not self.accepted.unsent
        assert not self.client._calls
        assert self.ended == Counter(at for at, each in enumerate(self.lasting) if each.is_abandoned)
        assert self.methods.on_settled == dict.fromkeys(range(1, self.methods.finished + 1), 1)
        self.client.abort()
        await carry_all(self.up, self.down)
        assert self.client.is_closed
        assert self.accepted.is_closed
        assert not self.server.connections


SIZES = st.one_of(st.integers(0, 300), st.sampled_from([16_384, 70_000, 300_000, 1 << 20, (1 << 20) + 1]))
NAMES = ["echo", "hold", "fail", "repeat", "early", "none", "lasting hold", "lasting echo"]
CALL = st.tuples(st.just("call"), st.sampled_from(NAMES), SIZES)
CARRY = st.tuples(st.just("carry"), st.booleans(), st.sampled_from([1, 9, 100, 5_000, 1 << 16, 1 << 16]))
ODD = st.one_of(
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.sampled_from([("end",), ("release",), ("drain",), ("go away",), ("retire",)]),
    st.tuples(st.just("abort"), st.booleans()),
)
STEPS = st.lists(st.one_of(CALL, CARRY, CARRY, CARRY, ODD), max_size=40)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, limit_bytes=st.sampled_from([1 << 10, 1 << 20, 1 << 27]), begins_at_once=st.booleans())
async def test_every_call_ends_once_with_its_answer_or_an_error_and_leaves_nothing(
    steps: list[tuple[Any, ...]], limit_bytes: int, begins_at_once: bool
) -> None:
    @leaves_nothing
    async def run() -> None:
        made = Run(limit_bytes, begins_at_once)
        for step in steps:
            await made.do(step)
        await made.check()

    await run()


@leaves_nothing
async def test_answers_that_are_sent_at_once_end_their_calls_one_after_another() -> None:
    """Each of 300 callers that have not sent all gets a reset, without recursion (once of depth 1,500)."""

    methods = Methods(begins_at_once=True)
    server = server_of(methods.handlers(), max_concurrent_streams=1000)
    accepted = server.connect()
    there = Wire(accepted)
    accepted.connection_made(there)
    there.high_bytes = 1 << 30
    _speak(accepted, *[_begun(1 + 2 * at, b"/early") for at in range(300)], window=0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(accepted.unsent) == 300
    assert server.outbound_bytes.used_bytes == 300 * 5005
    _feed(
        accepted,
        frame(SETTINGS, 0, 0, b"\0\4" + (1 << 20).to_bytes(4, "big")),
        frame(WINDOW_UPDATE, 0, 0, b"\x40\0\0\0"),
    )
    assert not accepted.unsent
    assert not accepted.streams
    assert server.outbound_bytes.used_bytes == 0
    assert sum(methods.on_settled.values()) == 300
    accepted.abort()


@leaves_nothing
@pytest.mark.parametrize("begins_at_once", [False, True])
async def test_a_lasting_call_goes_on_without_its_caller_until_its_limit(begins_at_once: bool) -> None:
    run = Run(1 << 20, begins_at_once)
    ended: list[str] = []

    async def call(timeout_s: float, limit_s: float, name: str) -> bytes:
        lasting = LastingCall(limit_s, lambda: ended.append(name))
        return await run.client.unary((*BASE[:3], (b":path", b"/hold"), BASE[3]), b"x", timeout_s, lasting)

    calls = [
        asyncio.ensure_future(call(*each)) for each in ((60, 120, "left"), (0.01, 120, "late"), (0.01, 0.02, "over"))
    ]
    await carry_all(run.up, run.down)
    calls[0].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    while "over" not in ended:
        await asyncio.sleep(0.01)
    await carry_all(run.up, run.down)
    assert len(run.accepted.streams) == 2, "the call over its limit was reset, the others were not"
    assert ended == ["over"]
    run.methods.released.set()
    await carry_all(run.up, run.down)
    assert sorted(ended) == ["late", "left", "over"]
    assert not run.client._calls
    run.client.abort()
    await carry_all(run.up, run.down)


def _begun(stream: int, path: bytes) -> bytes:
    fields = [*BASE[:3], (b":path", path), BASE[3]]
    block = b"".join(b"\0" + b"".join(bytes((len(text),)) + text for text in field) for field in fields)
    return frame(HEADERS, END_HEADERS, stream, block)


def _speak(connection: ServerConnection, *frames: bytes, window: int) -> None:
    _feed(connection, PREFACE + frame(SETTINGS, 0, 0, b"\0\4" + window.to_bytes(4, "big")), *frames)


def _feed(connection: ServerConnection, *frames: bytes) -> None:
    data = b"".join(frames)
    view = connection.get_buffer(-1)
    for at in range(0, len(data), len(view)):
        piece = data[at : at + len(view)]
        view[: len(piece)] = piece
        connection.buffer_updated(len(piece))


@leaves_nothing
async def test_calls_of_any_deadlines_end_at_theirs() -> None:
    run = Run(1 << 20, begins_at_once=True)
    loop, took_s = asyncio.get_running_loop(), dict[float, float]()

    async def call(timeout_s: float) -> None:
        begun_s = loop.time()
        with suppress(CallFailed):
            await run.client.unary((*BASE[:3], (b":path", b"/hold"), BASE[3]), b"x", timeout_s)
        took_s[timeout_s] = loop.time() - begun_s

    calls = [asyncio.ensure_future(call(timeout_s)) for timeout_s in (60, 0.2, 0.05, 0.1)]
    await asyncio.wait(calls[1:], timeout=5)
    assert list(took_s) == [0.05, 0.1, 0.2]
    assert all(timeout_s - 0.01 <= each_s < timeout_s + 1 for timeout_s, each_s in took_s.items())
    run.methods.released.set()
    await carry_all(run.up, run.down)
    await calls[0]
    assert took_s[60] < 10
    run.client.abort()
    await carry_all(run.up, run.down)
