"""Calls to upstreams over a socket whose connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio
from tritonclient.grpc import service_pb2 as pb

from triptych.client.upstream import Upstream
from triptych.errors import DeadlineExceeded, StageUnavailable
from triptych.protocol.call import Call
from triptych.server.inference_servicer import SERVICE

LIVE = pb.ServerLiveRequest()


class Stuck:
    """Handler that never answers."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()

    async def answer(self, _request: bytes, _context: Any) -> bytes:
        self.taken.set()
        await asyncio.Event().wait()
        return b""


@asynccontextmanager
async def stuck() -> AsyncIterator[tuple[Stuck, Upstream]]:
    server, handler = aio.server(), Stuck()
    methods: dict[str, Any] = {"ServerLive": grpc.unary_unary_rpc_method_handler(handler.answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    upstream = Upstream("predictor", f"127.0.0.1:{port}", SERVICE, relays=False)
    yield handler, upstream
    await upstream.close()
    await server.stop(0)


async def test_a_call_on_a_closed_channel_is_unavailable_and_cancels_no_other() -> None:
    async with stuck() as (handler, upstream):
        call = asyncio.create_task(upstream.call("ServerLive", LIVE, Call.within(20)))
        await handler.taken.wait()
        await upstream.close()
        with pytest.raises(StageUnavailable, match="the channel was closed"):
            await call
        with pytest.raises(StageUnavailable, match="the channel was closed"):
            await upstream.call("ServerLive", LIVE, Call.within(20))


async def test_a_caller_that_is_cancelled_is_cancelled() -> None:
    async with stuck() as (handler, upstream):
        call = asyncio.create_task(upstream.call("ServerLive", LIVE, Call.within(20)))
        await handler.taken.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_part_that_does_not_answer_in_time_is_named_with_the_time() -> None:
    async with stuck() as (_, upstream):
        with pytest.raises(DeadlineExceeded, match=r"predictor at .* did not answer within 0.1"):
            await upstream.call("ServerLive", LIVE, Call.within(20), 0.1)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_what_a_replica_that_is_leaving_drops_is_asked_for_again(code: grpc.StatusCode) -> None:
    """The address is a name, which may have replicas; this server drops its first call."""
    asked = 0

    async def answer(_request: bytes, context: Any) -> bytes:
        nonlocal asked
        asked += 1
        if asked == 1:
            await context.abort(code, "this replica is gone")
        return bytes(pb.ServerLiveResponse(live=True).SerializeToString())

    server = aio.server()
    methods: dict[str, Any] = {"ServerLive": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, methods),))
    port = server.add_insecure_port("localhost:0")
    await server.start()
    upstream = Upstream("postprocess", f"localhost:{port}", SERVICE, relays=False, retries=True)
    assert (await upstream.call("ServerLive", LIVE, Call.within(20))).live
    assert asked == 2
    await upstream.close()
    await server.stop(0)
