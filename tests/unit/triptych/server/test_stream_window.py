"""Answers of one stream: in order, within a window, and within bytes that all streams share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.fakes.scripted.settings import Settings
from tests.leaks import leaves_nothing
from triptych.protocol.call import Call
from triptych.server.inference_servicer import InferenceServicer
from triptych.server.stream_window import MAX_REQUESTS, MAX_WAITING_BYTES
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

MIB = 1 << 20


class Sized(InferenceServicer):
    """Answers of the size that a request's id states, the first `held` once released; `started` has the order."""

    def __init__(self, held: int = 1, **settings: Any) -> None:
        super().__init__("sized", Settings(**settings), StageMetrics("sized", Tracing()), lambda: True)
        self.held, self.started = held, list[int]()
        self.first = asyncio.Event()

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        self.started.append(int(request.id))
        if len(self.started) <= self.held:
            await self.first.wait()
        return pb.ModelInferResponse(id=request.id, raw_output_contents=[bytes(int(request.id))])

    def stream(self, *sizes: int) -> AsyncIterator[bytes]:
        async def requests() -> AsyncIterator[Callable[[], pb.ModelInferRequest]]:
            for size in sizes:
                await turns(5)
                yield partial(pb.ModelInferRequest, id=str(size))

        return self.model_stream_infer(requests(), Call.within(60))


async def turns(count: int = 400) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def parsed(answers: list[bytes]) -> list[pb.ModelStreamInferResponse]:
    return [pb.ModelStreamInferResponse.FromString(each) for each in answers]


def used_bytes(servicer: Sized) -> int:
    return servicer._stream_bytes.waiting.used_bytes + servicer._stream_bytes.due.used_bytes


@leaves_nothing
async def test_answers_keep_the_order_of_the_requests() -> None:
    servicer, sizes = Sized(), tuple(range(50))
    servicer.first.set()
    answers = parsed([each async for each in servicer.stream(*sizes)])
    assert [int(each.infer_response.id) for each in answers] == list(sizes)


@leaves_nothing
async def test_a_stream_has_a_window_of_requests() -> None:
    servicer = Sized()
    stream = servicer.stream(*range(50))
    first = asyncio.ensure_future(anext(stream))
    await turns()
    assert len(servicer.started) == MAX_REQUESTS
    servicer.first.set()
    await first
    await turns()
    assert len(servicer.started) == MAX_REQUESTS  # nobody has read the first answer yet
    assert len([each async for each in stream]) == 49


@leaves_nothing
async def test_a_caller_that_does_not_read_stops_its_own_stream() -> None:
    servicer = Sized()
    stream = servicer.stream(*[MAX_WAITING_BYTES] * 8)
    first = asyncio.ensure_future(anext(stream))
    await turns()
    assert 2 <= len(servicer.started) < 8
    servicer.first.set()
    assert len([await first, *[each async for each in stream]]) == 8


@leaves_nothing
async def test_answers_that_wait_for_their_turn_are_bounded_over_all_streams() -> None:
    servicer = Sized(max_bytes_in_flight=2 * MIB)
    sizes = (1, *[300_000] * 7)
    stream = servicer.stream(*sizes)
    first = asyncio.ensure_future(anext(stream))
    await turns()
    assert used_bytes(servicer) < MIB + 7 * 1000
    other = parsed([each async for each in servicer.stream(400_000)])  # its turn has come, so it waits for nothing
    assert not other[0].error_message
    servicer.first.set()
    answers = parsed([await first, *[each async for each in stream]])
    refused = [each for each in answers if each.error_message]
    assert len(answers) == 8
    assert len(refused) == 4  # three of 300,000 bytes fit
    assert all(each.error_message.startswith("RESOURCE_EXHAUSTED: ") for each in refused)
    assert [each.infer_response.id for each in answers] == [str(size) for size in sizes]
    assert used_bytes(servicer) == 0


@leaves_nothing
async def test_answers_that_many_streams_make_at_once_are_bounded_until_they_are_sent() -> None:
    servicer = Sized(held=8, max_bytes_in_flight=2 * MIB)
    streams = [servicer.stream(300_000) for _ in range(8)]
    asking = asyncio.gather(*map(anext, streams))
    await turns()
    servicer.first.set()
    answers = parsed(await asking)
    assert [bool(each.error_message) for each in answers] == [False] * 3 + [True] * 5
    assert used_bytes(servicer) == 0
    for each in streams:
        await each.aclose()  # type: ignore[attr-defined]
    assert not parsed([each async for each in servicer.stream(300_000)])[0].error_message


@pytest.mark.parametrize("read", [0, 1, 3])
@leaves_nothing
async def test_a_stream_that_ends_early_releases_its_bytes(read: int) -> None:
    servicer = Sized()
    stream = servicer.stream(*[100_000] * 6)
    first = asyncio.ensure_future(anext(stream))
    await turns()
    assert used_bytes(servicer) > 0
    if read:
        servicer.first.set()
        await first
        for _ in range(read - 1):
            await anext(stream)
    else:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    await stream.aclose()  # type: ignore[attr-defined]
    await turns(3)
    assert used_bytes(servicer) == 0
