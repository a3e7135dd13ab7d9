"""Preprocess's calls to Triton, over a real socket: the next replica, the least busy one, and none cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import aio
from tritonclient.grpc import service_pb2 as pb

from preprocess.catalog import Target
from preprocess.predictors import Predictors
from preprocess.settings import Settings
from triptych.client.contract_cache import CONTROLLER_SERVICE
from triptych.client.transport import Transport
from triptych.client.upstream import Upstream
from triptych.errors import DeadlineExceeded, Overloaded, Unavailable
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.server.inference_servicer import SERVICE

ROW = {"x": np.ones((1, 2), np.float32)}
GONE = "Request for unknown model: 'm' version 1 is not at ready state"


class Server:
    """A gRPC server with one method; the test decides whether it answers, waits or refuses."""

    def __init__(self) -> None:
        self.calls = self.cancelled = self.answered = 0
        self.refuses: grpc.StatusCode | None = None
        self.go = asyncio.Event()
        self.go.set()
        self.address = ""

    async def answer(self, _request: bytes, context: Any) -> bytes:
        self.calls += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.refuses is not None:
            await context.abort(self.refuses, GONE)
        self.answered += 1
        return self.reply()

    def reply(self) -> bytes:
        return bytes(pb.ModelInferResponse(model_name=self.address).SerializeToString())


class Controller(Server):
    """Names the Tritons that a test wants to be named."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def reply(self) -> bytes:
        return cp.EnsureLoadedReply(predictors=self.names).SerializeToString()


@asynccontextmanager
async def served(*servers: Server, transport: str = "http2", **settings: Any) -> AsyncIterator[Predictors]:
    """The servers, the last of them the controller, and the predictors that preprocess calls."""
    running = []
    for each in servers:
        server = aio.server()
        service, method = (SERVICE, "ModelInfer")
        if isinstance(each, Controller):
            service, method = (CONTROLLER_SERVICE, "EnsureLoaded")
        handlers: dict[str, Any] = {method: grpc.unary_unary_rpc_method_handler(each.answer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        each.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        running.append(server)
    controller = Upstream("controller", servers[-1].address, CONTROLLER_SERVICE, relays=True)
    predictors = Predictors(Settings(**settings), controller, Transport(transport))
    yield predictors
    await predictors.close()
    await controller.close()
    for server in running:
        await server.stop(0)


def target(*holders: Server) -> Target:
    return Target("f", "m", 1, 100, tuple(each.address for each in holders))


@pytest.mark.parametrize("transport", ["http2", "grpcio"])
@pytest.mark.parametrize("cancels", [True, False], ids=["a caller that goes away", "a deadline that passes"])
async def test_triton_finishes_requests_that_nobody_waits_for_any_more(cancels: bool, transport: str) -> None:
    triton, controller = Server(), Controller()
    triton.go.clear()
    async with served(triton, controller, transport=transport) as predictors:
        waiting = asyncio.create_task(predictors.predict(target(triton), ROW, Call.within(20 if cancels else 0.3)))
        while not triton.calls:
            await asyncio.sleep(0.01)
        assert not predictors.has_abandoned(target(triton))
        if cancels:
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError if cancels else DeadlineExceeded):
            await waiting
        assert predictors.has_abandoned(target(triton))
        assert not predictors.has_abandoned(target(controller))
        await asyncio.sleep(0.3)
        triton.go.set()
        while not triton.answered:
            await asyncio.sleep(0.01)
        assert triton.cancelled == 0
        while predictors.has_abandoned(target(triton)):
            await asyncio.sleep(0.01)


async def test_another_replica_answers_for_one_that_crashed_or_dropped_the_model() -> None:
    first, second, controller = Server(), Server(), Controller()
    async with served(first, second, controller) as predictors:
        for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND):
            first.refuses = code
            answer = await predictors.predict(target(first, second), ROW, Call.within(20))
            assert answer.model_name == second.address
        assert controller.calls == 0


async def test_another_holder_answers_for_one_that_hangs() -> None:
    first, second, controller = Server(), Server(), Controller()
    first.go.clear()
    async with served(first, second, controller, predict_timeout_s=0.3) as predictors:
        answer = await predictors.predict(target(first, second), ROW, Call.within(20))
        assert answer.model_name == second.address
        first.go.set()


async def test_the_least_busy_holder_is_asked() -> None:
    first, second, controller = Server(), Server(), Controller()
    first.go.clear()
    second.go.clear()
    async with served(first, second, controller) as predictors:
        calls = [
            asyncio.create_task(predictors.predict(target(first, second), ROW, Call.within(20))) for _ in range(10)
        ]
        while first.calls + second.calls < 10:
            await asyncio.sleep(0.01)
        assert (first.calls, second.calls) == (5, 5)
        first.go.set()
        second.go.set()
        await asyncio.gather(*calls)


async def test_when_no_holder_has_the_model_the_controller_is_asked() -> None:
    behind, holder, controller = Server(), Server(), Controller()
    behind.refuses = grpc.StatusCode.NOT_FOUND
    async with served(behind, holder, controller) as predictors:
        controller.names = [holder.address]
        answer = await predictors.predict(target(behind), ROW, Call.within(20))
        assert answer.model_name == holder.address


async def test_a_model_that_is_gone_after_every_load_is_given_up() -> None:
    behind, controller = Server(), Controller()
    behind.refuses = grpc.StatusCode.NOT_FOUND
    async with served(behind, controller) as predictors:
        controller.names = [behind.address]
        with pytest.raises(Unavailable, match="gone again each time"):
            await predictors.predict(target(behind), ROW, Call.within(20))


async def test_calls_that_a_triton_does_not_answer_are_bounded() -> None:
    triton, controller = Server(), Controller()
    triton.go.clear()
    async with served(triton, controller, max_in_flight=3) as predictors:
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                await predictors.predict(target(triton), ROW, Call.within(0.1))
        with pytest.raises(Overloaded, match="has 3 calls to answer, the limit"):
            await predictors.predict(target(triton), ROW, Call.within(20))
        triton.go.set()


async def test_of_equally_busy_tritons_that_of_the_own_pod_is_asked_first() -> None:
    other, own, controller = Server(), Server(), Controller()
    async with served(other, own, controller):
        nobody: Any = None
        predictors = Predictors(Settings(own_predictor=own.address), nobody, Transport())
        await predictors.predict(target(other, own), ROW, Call.within(20))
        assert (other.calls, own.calls) == (0, 1)
        own.go.clear()
        waiting = asyncio.create_task(predictors.predict(target(other, own), ROW, Call.within(20)))
        while own.calls < 2:
            await asyncio.sleep(0.01)
        await predictors.predict(target(other, own), ROW, Call.within(20))
        assert (other.calls, own.calls) == (1, 2), "the own one has a call more to answer"
        own.go.set()
        await waiting
        await predictors.close()
