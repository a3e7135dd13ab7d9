"""The HTTP/2 client channel against servers that refuse, leave, stall or answer wrongly."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from ngh2 import Setting

from tests.fakes.scripted.peer import END, OK, Peer, peers
from tests.leaks import leaves_nothing
from triptych.http2 import channel as channel_module
from triptych.http2 import client as client_module
from triptych.http2.channel import Http2Channel
from triptych.http2.client_stream import CallFailed
from triptych.http2.framing import framed
from triptych.runtime.tls import UpstreamCredentials

StatusCode = grpc.StatusCode
PATH = "/a/B"
HELLO = framed(b"hello")
TIMEOUT_S = 60.0  # of what is never to run out
UNAVAILABLE = ((b"grpc-status", b"14"),)


@asynccontextmanager
async def channel_to(address: str, *arguments: Any, **options: Any) -> AsyncIterator[Http2Channel]:
    channel = Http2Channel(address, *arguments, **options)
    try:
        yield channel
    finally:
        await channel.close()


async def failure(call: Coroutine[Any, Any, Any]) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        await call
    return caught.value


async def until(happened: Callable[[], Any]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not happened():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def outsider(said: bytes) -> AsyncIterator[str]:
    """Address of a server that sends these bytes to every client and nothing else."""
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        writer.write(said)
        with suppress(OSError):
            await reader.read()
        writer.close()
        serving.discard(asyncio.current_task())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await until(lambda: not serving)


def echo(peer: Peer, stream: int) -> None:
    peer.answer(stream, HELLO)


def silent(peer: Peer, stream: int) -> None:
    """Script that accepts a call and never answers."""


HTML = ((b":status", b"200"), (b"content-type", b"text/html"))
NO_ANSWERS: dict[str, tuple[tuple[bytes, ...], Any, Any, StatusCode, str]] = {
    "two messages": ((HELLO, HELLO), OK, END, StatusCode.INTERNAL, "want one message, got 10 bytes more"),
    "none": ((), OK, END, StatusCode.INTERNAL, "got none that is whole"),
    "one that is cut": ((HELLO[:-1],), OK, END, StatusCode.INTERNAL, "got none that is whole"),
    "one and a piece": ((HELLO, HELLO[:3]), OK, END, StatusCode.INTERNAL, "got 3 bytes more"),
    "a compressed one": ((b"\1" + HELLO[1:],), OK, END, StatusCode.INTERNAL, "without compression"),
    "no status": ((HELLO,), OK, ((b"x", b"y"),), StatusCode.INTERNAL, "has no grpc-status"),
    "a page": ((b"<html>",), HTML, None, StatusCode.INTERNAL, "has no grpc-status"),
    "503": ((), ((b":status", b"503"),), (), StatusCode.UNAVAILABLE, "HTTP status 503"),
    "404 with a page": ((b"<html>",), ((b":status", b"404"),), None, StatusCode.UNIMPLEMENTED, "HTTP status 404"),
    "418": ((), ((b":status", b"418"),), (), StatusCode.UNKNOWN, "HTTP status 418"),
    "an unknown status": ((), OK, ((b"grpc-status", b"99"),), StatusCode.UNKNOWN, ""),
    "a status that is no number": ((), OK, ((b"grpc-status", b"x"),), StatusCode.UNKNOWN, ""),
    "bytes": ((), OK, ((b"grpc-status", b"5"), (b"grpc-message", b"%ff%z\xe4")), StatusCode.NOT_FOUND, ""),
    "long trailers": ((HELLO,), OK, (*END, *[(b"x-%d" % at, b"y" * 1000) for at in range(50)]), StatusCode.OK, ""),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
@leaves_nothing
async def test_what_is_no_answer_is_an_error_that_says_so(name: str) -> None:
    pieces, headers, end, code, text = NO_ANSWERS[name]

    def script(peer: Peer, stream: int) -> None:
        peer.answer(stream, *pieces, end=end, headers=headers)
        if end is None:
            peer.http.end_stream(stream)

    async with peers(script) as served, channel_to(served.address) as channel:
        if code is StatusCode.OK:
            assert await channel.unary(PATH, b"", TIMEOUT_S) == b"hello"
            return
        error = await failure(channel.unary(PATH, b"", TIMEOUT_S))
        assert error.code is code
        assert text in error.details


@leaves_nothing
async def test_answers_of_a_stream_that_end_within_a_message_are_an_error() -> None:
    def script(peer: Peer, stream: int) -> None:
        peer.answer(stream, HELLO, HELLO[:7])

    async with peers(script) as served, channel_to(served.address) as channel:
        got: list[bytes] = []

        async def read() -> None:
            async for message in channel.stream(PATH, b""):
                got.append(message)

        assert "ended within a message" in (await failure(read())).details
        assert got == [b"hello"]


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 100])
@leaves_nothing
async def test_a_server_that_does_not_speak_http2_is_unavailable(said: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channel_module, "CONNECT_S", 0.05)
        async with outsider(said) as address, channel_to(address) as channel:
            error = await failure(channel.unary(PATH, b"", TIMEOUT_S))
            assert error.code is StatusCode.UNAVAILABLE
            assert ("no answer in time" if not said else "before the server sent its settings") in error.details


@leaves_nothing
async def test_a_server_with_tls_and_no_http2_is_named_so() -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.set_alpn_protocols(["h2"])
    authority.configure_trust(trusting)
    async with peers(echo, context=context) as served, channel_to(served.address, trusting) as channel:
        error = await failure(channel.unary(PATH, b"", TIMEOUT_S))
        assert error.code is StatusCode.UNAVAILABLE
        assert "want HTTP/2 by ALPN" in error.details
        context.set_alpn_protocols(["h2"])
        await asyncio.sleep(0.3)
        assert await channel.unary(PATH, b"", TIMEOUT_S) == b"hello"


@pytest.mark.parametrize("how", ["refused", "goaway"])
@leaves_nothing
async def test_a_call_that_the_server_has_not_begun_is_sent_again(how: str) -> None:
    numbers = count()

    def script(peer: Peer, stream: int) -> None:
        if next(numbers):
            peer.answer(stream, HELLO)
        elif how == "refused":
            peer.http.reset_stream(stream, 7)
        else:
            peer.http.send_goaway(0, last_stream_id=0)

    async with peers(script) as served, channel_to(served.address) as channel:
        assert await channel.unary(PATH, b"", TIMEOUT_S) == b"hello"
        assert served.calls == 2


@leaves_nothing
async def test_calls_that_wait_for_others_when_the_server_leaves_are_sent_elsewhere() -> None:
    """libnghttp2 reports these calls with its next send, not with the received frame."""
    first: list[tuple[Peer, int]] = []

    def script(peer: Peer, stream: int) -> None:
        if first:
            peer.answer(stream, HELLO)
        else:
            first.append((peer, stream))

    limit = {Setting.MAX_CONCURRENT_STREAMS: 1}
    async with peers(script, limit) as served, channel_to(served.address) as channel:
        calls = [asyncio.create_task(channel.unary(PATH, b"", TIMEOUT_S)) for _ in range(4)]
        await until(lambda: first)
        await asyncio.sleep(0.02)
        peer, stream = first[0]
        peer.http.send_goaway(0, last_stream_id=stream)
        peer.answer(stream, HELLO)
        peer.flush()
        assert await asyncio.gather(*calls) == [b"hello"] * 4


@pytest.mark.parametrize(("pushback", "tries"), [(b"1", 5), (b"-1", 1), (b"soon", 1), (b"9" * 5000, 1), (b"90000", 1)])
@leaves_nothing
async def test_a_server_says_when_it_wants_to_be_tried_again(pushback: bytes, tries: int) -> None:
    def script(peer: Peer, stream: int) -> None:
        peer.answer(stream, end=(*UNAVAILABLE, (b"grpc-retry-pushback-ms", pushback)))

    async with peers(script) as served, channel_to(served.address, retries=True) as channel:
        assert (await failure(channel.unary(PATH, b"", TIMEOUT_S))).code is StatusCode.UNAVAILABLE
        assert served.calls == tries


@leaves_nothing
async def test_a_call_that_is_answered_before_it_is_sent_ends() -> None:
    def script(peer: Peer, stream: int) -> None:
        peer.answer(stream, end=((b"grpc-status", b"8"), (b"grpc-message", b"too large")))

    async with peers(script, {Setting.INITIAL_WINDOW_SIZE: 10}) as served, channel_to(served.address) as channel:
        error = await failure(channel.unary(PATH, bytes(1000), TIMEOUT_S))
        assert (error.code, error.details) == (StatusCode.RESOURCE_EXHAUSTED, "too large")
        await until(lambda: served.all[0].resets)


@pytest.mark.parametrize("how", ["cancelled", "late", "left"])
@leaves_nothing
async def test_a_call_that_nobody_waits_for_is_reset(how: str) -> None:
    def script(peer: Peer, stream: int) -> None:
        peer.answer(stream, HELLO, end=None)

    async with peers(script if how == "left" else silent) as served, channel_to(served.address) as channel:
        if how == "left":
            async with aclosing(channel.stream(PATH, b"")) as messages:
                async for message in messages:
                    assert message == b"hello"
                    break
        elif how == "late":
            while not (served.all and served.all[0].resets):  # on a busy machine it may be late before it is sent
                assert (await failure(channel.unary(PATH, b"", 0.2))).code is StatusCode.DEADLINE_EXCEEDED
        else:
            call = asyncio.create_task(channel.unary(PATH, b"", TIMEOUT_S))
            await until(lambda: served.calls)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await until(lambda: served.all[0].resets == [8])
        assert not [call for connection in channel._connections for call in connection._calls]


@leaves_nothing
async def test_a_server_that_falls_silent_is_asked_and_then_left() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_module, "KEEPALIVE_S", 0.05)
        patch.setattr(client_module, "KEEPALIVE_TIMEOUT_S", 0.05)
        async with peers(silent) as served, channel_to(served.address) as channel:
            call = asyncio.create_task(channel.unary(PATH, b"", TIMEOUT_S))
            await until(lambda: served.calls)
            await asyncio.sleep(0.3)
            assert not call.done()  # it answers pings
            transport = served.all[0].transport
            assert transport is not None
            transport.pause_reading()
            assert (await failure(_of(call))).details == "the connection was lost"


@leaves_nothing
async def test_an_address_that_was_unreachable_for_long_is_used_when_it_is_back() -> None:
    """The address is retried when its backoff ends, even without calls and at the longest backoff."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channel_module, "MAX_BACKOFF_S", channel_module.BACKOFF_S)
        async with peers(echo) as here:
            async with peers(echo) as gone:
                port = gone.port
            async with channel_to(f"ipv4:127.0.0.1:{port},{here.address}") as channel:
                for _ in range(20):
                    assert await channel.unary(PATH, b"", TIMEOUT_S) == b"hello"
                await asyncio.sleep(0.5)
                async with peers(echo, port=port) as back:
                    await until(lambda: back.all and back.all[0].transport)
                    await until(lambda: len(channel._usable) == 2)
                    for _ in range(4):
                        await channel.unary(PATH, b"", TIMEOUT_S)
                    assert back.calls == 2


@leaves_nothing
async def test_a_connection_that_ends_as_soon_as_it_is_there_is_made_again() -> None:
    numbers = count()

    def script(peer: Peer, stream: int) -> None:
        if next(numbers):
            peer.answer(stream, HELLO)
        else:
            assert peer.transport is not None
            peer.transport.abort()

    async with peers(script) as served, channel_to(served.address) as channel:
        assert (await failure(channel.unary(PATH, b"", TIMEOUT_S))).code is StatusCode.UNAVAILABLE
        await until(lambda: channel._usable)  # though nobody calls
        assert await channel.unary(PATH, b"", TIMEOUT_S) == b"hello"


@leaves_nothing
async def test_a_name_whose_addresses_change_is_followed() -> None:
    async with peers(echo) as one, peers(echo) as other:
        found = [("127.0.0.1", one.port)]

        async def resolved(_host: str, _port: int) -> list[tuple[str, int]]:
            if not found:
                raise OSError(-2, "Name or service not known")
            return list(found)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(channel_module, "_resolved", resolved)
            patch.setattr(channel_module, "RESOLVE_S", 0.01)
            async with channel_to("replicas:9001", retries=True) as channel:
                assert await channel.unary(PATH, b"", TIMEOUT_S) == b"hello"
                await asyncio.sleep(2 * channel_module.RESOLVE_S)  # until it may be looked up again
                found[:] = [("127.0.0.1", other.port)]
                one.all[0].http.send_goaway(0)
                one.all[0].flush()
                await until(lambda: list(channel._endpoints) == found)
                assert await channel.unary(PATH, b"", TIMEOUT_S) == b"hello"
                assert (one.calls, other.calls) == (1, 1)
                found.clear()
                assert await channel.unary(PATH, b"", TIMEOUT_S) == b"hello"  # what was known holds


@leaves_nothing
async def test_a_name_without_addresses_is_unavailable_and_named() -> None:
    async with channel_to("nowhere.invalid:9001") as channel:
        error = await failure(channel.unary(PATH, b"", TIMEOUT_S))
        assert error.code is StatusCode.UNAVAILABLE
        assert "cannot resolve nowhere.invalid:9001" in error.details


@pytest.mark.parametrize("state", ["new", "resolving", "connecting", "calling", "streaming", "away", "idle"])
@leaves_nothing
async def test_a_channel_that_is_closed_leaves_nothing(state: str) -> None:
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(peers(silent if state == "calling" else echo))
        if state == "connecting":
            address = await stack.enter_async_context(outsider(b""))
        else:
            address = "127.0.0.1:1" if state == "away" else served.address
        channel = Http2Channel(address)
        call: asyncio.Task[bytes] | None = None
        if state in ("resolving", "connecting", "calling"):
            call = asyncio.create_task(channel.unary(PATH, b"", TIMEOUT_S))
            await asyncio.sleep(0.0 if state == "resolving" else 0.05)
        elif state == "away":
            await failure(channel.unary(PATH, b"", TIMEOUT_S))
        elif state == "idle":
            await channel.unary(PATH, b"", TIMEOUT_S)
        elif state == "streaming":
            stream = channel.stream(PATH, b"")
            await anext(stream)
            await stream.aclose()
        await channel.close()
        if call is not None:
            error = await failure(_of(call))
            assert (error.code, error.details) == (StatusCode.UNAVAILABLE, channel_module.CLOSED)
        assert not channel._tasks()
        await until(lambda: not channel._connections)
        assert (await failure(channel.unary(PATH, b"", TIMEOUT_S))).details == channel_module.CLOSED


@leaves_nothing
async def test_a_channel_that_takes_no_more_calls_ends_those_that_it_has() -> None:
    held: list[tuple[Peer, int]] = []
    async with peers(lambda peer, stream: held.append((peer, stream))) as served:
        channel = Http2Channel(served.address)
        call = asyncio.create_task(channel.unary(PATH, b"", TIMEOUT_S))
        await until(lambda: held)
        channel.retire()
        assert (await failure(channel.unary(PATH, b"", TIMEOUT_S))).details == channel_module.CLOSED
        held[0][0].answer(held[0][1], HELLO)
        held[0][0].flush()
        assert await call == b"hello"
        await until(lambda: not channel._connections and served.all[0].is_gone)


@pytest.mark.parametrize("authorities", [b"", b"none\n", b"\xff", b"-----BEGIN CERTIFICATE-----\n"])
def test_authorities_that_are_none_are_named(authorities: bytes, tmp_path: Path) -> None:
    """An empty file does not raise `OSError`, the error that the reload of renewed files expects."""
    path = tmp_path / "authorities.pem"
    path.write_bytes(authorities)
    with pytest.raises(OSError, match=r"cannot use .*authorities\.pem"):
        UpstreamCredentials(str(path)).context()


async def _of(call: asyncio.Task[bytes]) -> bytes:
    return await call
