"""Servers that answer too much, too fast or without an end, to each transport of our calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.fakes.scripted.frames import CONTINUATION, END_HEADERS, END_STREAM, HEADERS, frame, literal
from tests.fakes.scripted.peer import END, OK, Peer, Peers, peers
from tests.leaks import leaves_nothing
from triptych.client.transport import Transport
from triptych.client.upstream import Upstream
from triptych.errors import AnswerTooLarge, Internal, Overloaded, StageUnavailable, TriptychError
from triptych.http2.client_stream import ClientLimits
from triptych.http2.framing import framed
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.runtime.in_flight import InFlightBytes
from triptych.server.inference_servicer import SERVICE

CONTROLLER = cp.DESCRIPTOR.services_by_name["Controller"]
TRANSPORTS = ("http2", "grpcio")
KIB, MIB = 1 << 10, 1 << 20
WITHIN_S = 60.0  # of what is never to run out
Script = Callable[[Peer, int], None]


@asynccontextmanager
async def upstream_to(script: Script, name: str, **limits: Any) -> AsyncIterator[tuple[Upstream, Peers, ClientLimits]]:
    made = ClientLimits(**limits)
    async with peers(script) as served:
        upstream = Upstream(
            "predictor", served.address, SERVICE, CONTROLLER, relays=False, transport=Transport(name, made)
        )
        try:
            yield upstream, served, made
        finally:
            await upstream.close()


async def infer(upstream: Upstream) -> pb.ModelInferResponse:
    while True:
        try:
            call = Call.within(WITHIN_S)
            answer: pb.ModelInferResponse = await upstream.call("ModelInfer", pb.ModelInferRequest(), call)
        except StageUnavailable as error:
            if "before receiving SETTINGS" not in str(error):  # grpcio waits only 100 ms for them
                raise
        else:
            return answer


def answer_of(size: int) -> bytes:
    return framed(pb.ModelInferResponse(raw_output_contents=[bytes(size)]).SerializeToString())


def by_turns(*scripts: Script) -> Script:
    """One script after another, the last again and again."""
    left = list(scripts)
    return lambda peer, stream: (left.pop(0) if len(left) > 1 else left[0])(peer, stream)


def answers(data: bytes, end: Any = END, headers: Any = OK) -> Script:
    return lambda peer, stream: peer.answer(stream, data, end=end, headers=headers)


async def until(happened: Callable[[], Any]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not happened():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_an_answer_over_the_limit_is_refused_alone(name: str) -> None:
    script = by_turns(answers(answer_of(64 * KIB)), answers(answer_of(1_000)))
    async with upstream_to(script, name, max_message_bytes=32 * KIB) as (upstream, served, limits):
        with pytest.raises(AnswerTooLarge, match=r"the answer of predictor .* max \(655\d\d vs. 32768"):
            await infer(upstream)
        assert len((await infer(upstream)).raw_output_contents[0]) == 1_000
        assert len(served.all) == 1
        assert limits.in_flight_bytes.used_bytes == 0


@leaves_nothing
async def test_an_answer_that_only_announces_its_size_is_refused_at_once() -> None:
    """grpcio gathers what comes, and refuses the message once it is whole."""
    announced = b"\0" + (1 << 30).to_bytes(4, "big")
    async with upstream_to(answers(announced, end=None), "http2") as (upstream, _, _):
        with pytest.raises(AnswerTooLarge, match=r"larger than max \(1073741824 vs. 67108864\)"):
            await infer(upstream)


@leaves_nothing
async def test_an_answer_without_an_end_is_refused_with_its_second_message() -> None:
    async with upstream_to(answers(answer_of(10) * 2, end=None), "http2") as (upstream, served, _):
        with pytest.raises(Internal, match="want one message, got 1"):
            await infer(upstream)
        await until(lambda: served.all[0].resets == [8])


@leaves_nothing
async def test_answers_that_arrive_together_are_bounded_together() -> None:
    """16 answers, each within the limit of one, of which none ends."""
    part, limit = answer_of(MIB)[:-1], InFlightBytes(4 * MIB)
    async with upstream_to(answers(part, end=None), "http2", in_flight_bytes=limit) as (upstream, served, _):
        calls = [asyncio.ensure_future(infer(upstream)) for _ in range(16)]
        refused = (await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED))[0]
        for call in refused:
            with pytest.raises(Overloaded, match=r"bytes are in flight here, .* more are over the limit of 4194304"):
                await call
        assert 0 < limit.used_bytes <= 4 * MIB
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await until(lambda: len(served.all[0].resets) == 16)
        assert limit.used_bytes == 0


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_a_stream_that_nobody_reads_closes_its_window(name: str) -> None:
    update = framed(cp.CatalogUpdate(removed=["x" * 10_000]).SerializeToString())
    count = 64 * MIB // len(update)
    async with (
        upstream_to(answers(update * count), name) as (upstream, served, _),
        aclosing(upstream.stream("Watch", cp.WatchRequest())) as updates,
    ):
        assert (await anext(updates)).removed == ["x" * 10_000]
        waiting = -1
        while waiting != (waiting := served.all[0].http.queued_body_size()):  # until the server can send no more
            await asyncio.sleep(0.3)
        assert waiting > 0
        assert 1 + len([each async for each in updates]) == count


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_metadata_over_the_limit_costs_its_server_alone(name: str) -> None:
    """libnghttp2 would not send them."""

    def large(peer: Peer, stream: int) -> None:
        assert peer.transport is not None
        fields = [literal(":status", "200"), *(literal(f"x-{at}", "y" * 10_000) for at in range(60))]
        peer.transport.write(frame(HEADERS, END_STREAM, stream, fields[0]))
        for at, each in enumerate(fields[1:], 1):
            peer.transport.write(frame(CONTINUATION, END_HEADERS if at == 60 else 0, stream, each))

    async with upstream_to(by_turns(large, answers(answer_of(1))), name) as (upstream, _, _):
        with pytest.raises(TriptychError):
            await infer(upstream)
        assert (await infer(upstream)).raw_output_contents == [b"\0"]


@pytest.mark.parametrize("name", TRANSPORTS)
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"\x2a\0" * MIB, "this one would take too much memory"),  # a million outputs: 45 MiB
        (b"\xff", "want an encoded inference.ModelInferResponse, got 1 bytes that are none"),
    ],
    ids=["many fields", "no message"],
)
async def test_an_answer_that_cannot_be_read_is_an_error_of_its_server(name: str, answer: bytes, text: str) -> None:
    async with upstream_to(answers(framed(answer)), name, max_message_bytes=4 * MIB) as (upstream, _, _):
        with pytest.raises(Internal, match=f"predictor at .* answered what cannot be read: .*{text}"):
            await infer(upstream)


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_a_page_of_http_is_not_gathered(name: str) -> None:
    page = ((b":status", b"200"), (b"content-type", b"text/html"))
    async with upstream_to(answers(bytes(8 * MIB), end=None, headers=page), name) as (upstream, _, limits):
        call = asyncio.ensure_future(upstream.call("ModelInfer", pb.ModelInferRequest(), Call.within(1.0)))
        await asyncio.sleep(0.5)
        assert limits.in_flight_bytes.used_bytes == 0
        await asyncio.gather(call, return_exceptions=True)
