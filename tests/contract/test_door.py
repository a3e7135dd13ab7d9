"""The door over a real socket: status, streams, limits, health, reflection, leaving."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2 as pb

from triptych import errors
from triptych.call import Call
from triptych.contracts import REPOSITORY_SERVICE
from triptych.door import GrpcioDoor
from triptych.lifecycle import shut_down
from triptych.methods import methods_of
from triptych.metrics import StageMetrics
from triptych.oip import SERVICE, InferenceServicer, ModelInfo
from triptych.proto import repository_pb2 as rp
from triptych.settings import StageSettings
from triptych.status import CODES, INTERNAL_TEXT
from triptych.tracing import Tracing

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
WATCH = "/triptych.v1.Repository/Watch"

SAMPLES: dict[type[errors.TriptychError], errors.TriptychError] = {
    errors.InvalidRequest: errors.InvalidRequest("text"),
    errors.InvalidInput: errors.InvalidInput("x", "a", "b"),
    errors.InvalidParameter: errors.InvalidParameter("x", "a", "b"),
    errors.UnknownTarget: errors.UnknownTarget("text"),
    errors.UnknownModel: errors.UnknownModel("x"),
    errors.UnknownRoute: errors.UnknownRoute("f", "r"),
    errors.UnknownVersion: errors.UnknownVersion("m", "1"),
    errors.NotSupported: errors.NotSupported("text"),
    errors.Unavailable: errors.Unavailable("text"),
    errors.StageUnavailable: errors.StageUnavailable("s", "a", "r"),
    errors.Draining: errors.Draining("text"),
    errors.LoadFailed: errors.LoadFailed("m", "r"),
    errors.DeadlineExceeded: errors.DeadlineExceeded("text"),
    errors.Overloaded: errors.Overloaded("text"),
    errors.Internal: errors.Internal("secret"),
    errors.ContractViolation: errors.ContractViolation("secret"),
    errors.NotThere: errors.NotThere("secret"),
}


class Scripted(InferenceServicer):
    """Answers as a test says."""

    def __init__(self, settings: StageSettings, answer: Callable[[pb.ModelInferRequest, Call], Awaitable[Any]]) -> None:
        super().__init__("scripted", settings, StageMetrics("scripted", Tracing()), lambda: True)
        self._answer = answer

    async def describe(self, name: str, version: str, call: Call) -> ModelInfo:
        raise errors.UnknownModel(name)

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        response: pb.ModelInferResponse = await self._answer(request, call)
        return response


async def echo(request: pb.ModelInferRequest, _call: Call) -> pb.ModelInferResponse:
    if request.model_name == "bad":
        raise errors.UnknownModel("bad")
    return pb.ModelInferResponse(id=request.id, model_name=request.model_name)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


@asynccontextmanager
async def serving(
    answer: Callable[[pb.ModelInferRequest, Call], Awaitable[Any]] = echo, **settings: Any
) -> AsyncIterator[tuple[Any, GrpcioDoor]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = StageSettings(port=port, **settings)
    door = GrpcioDoor([methods_of(SERVICE, Scripted(config, answer))], config)
    await door.open()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, door
    await door.close(1.0)


async def refusal(channel: Any, data: bytes = b"", path: str = INFER, timeout: float = 5) -> tuple[Any, str]:
    with pytest.raises(aio.AioRpcError) as caught:
        await channel.unary_unary(path)(data, timeout=timeout)
    return caught.value.code(), caught.value.details() or ""


def test_the_samples_cover_the_table() -> None:
    assert SAMPLES.keys() == CODES.keys()


@pytest.mark.parametrize("error", [*SAMPLES.values(), ValueError("secret")], ids=lambda error: type(error).__name__)
def test_each_error_reaches_the_caller_as_its_row_says(error: Exception) -> None:
    async def fail(_request: Any, _call: Call) -> Any:
        raise error

    async def test() -> None:
        async with serving(fail) as (channel, _):
            code, text = await refusal(channel)
        assert code is CODES.get(type(error), grpc.StatusCode.INTERNAL)  # type: ignore[arg-type]
        assert text == (INTERNAL_TEXT if code is grpc.StatusCode.INTERNAL else str(error))

    run(test())


def test_bytes_that_are_no_message_are_the_callers_fault() -> None:
    async def test() -> None:
        async with serving() as (channel, _):
            code, text = await refusal(channel, b"\xff\xff\xff")
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert text == "want an encoded inference.ModelInferRequest, got 3 bytes that are none"

    run(test())


def test_a_message_over_the_limit_is_refused_and_the_next_one_served() -> None:
    async def test() -> None:
        async with serving(max_message_bytes=2048) as (channel, _):
            code, text = await refusal(channel, b"\0" * 3000)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "3000" in text
            assert "2048" in text
            await channel.unary_unary(INFER)(b"", timeout=5)

    run(test())


def test_more_requests_than_the_limit_are_refused_at_once() -> None:
    async def test() -> None:
        started, finish = asyncio.Event(), asyncio.Event()

        async def slow(_request: Any, _call: Call) -> Any:
            started.set()
            await finish.wait()
            return pb.ModelInferResponse()

        async with serving(slow, max_in_flight=1) as (channel, _):
            first = asyncio.ensure_future(channel.unary_unary(INFER)(b"", timeout=5))
            await started.wait()
            code, text = await refusal(channel)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "its limit" in text
            finish.set()
            await first

    run(test())


def test_the_callers_deadline_reaches_the_servicer() -> None:
    async def test() -> None:
        seen: list[float] = []

        async def look(_request: Any, call: Call) -> Any:
            seen.append(call.remaining_s())
            return pb.ModelInferResponse()

        async with serving(look, request_timeout_s=7) as (channel, _):
            await channel.unary_unary(INFER)(b"", timeout=3)
            await channel.unary_unary(INFER)(b"")
        assert 0 < seen[0] < 4 < seen[1] <= 7  # gRPC rounds deadlines up a little

    run(test())


def test_a_stream_answers_in_order_and_outlives_a_bad_request() -> None:
    async def test() -> None:
        async def later_for_the_first(request: pb.ModelInferRequest, call: Call) -> Any:
            await asyncio.sleep(0.05 if request.id == "0" else 0)
            return await echo(request, call)

        async def requests() -> AsyncIterator[bytes]:
            for number in range(40):
                name = "bad" if number == 3 else "good"
                yield pb.ModelInferRequest(id=str(number), model_name=name).SerializeToString()
                if number == 5:
                    yield b"\xff\xff"

        async with serving(later_for_the_first) as (channel, _):
            stream = channel.stream_stream(STREAM, response_deserializer=pb.ModelStreamInferResponse.FromString)
            answers = [answer async for answer in stream(requests(), timeout=5)]
        garbage = answers.pop(6)
        assert "got 2 bytes that are none" in garbage.error_message
        assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(40)]
        assert answers[3].error_message == "NOT_FOUND: unknown model or family 'bad'"
        assert not any(answer.error_message for answer in answers if answer.infer_response.id != "3")

    run(test())


def test_a_method_that_a_stage_does_not_offer_says_so() -> None:
    async def test() -> None:
        async with serving() as (channel, _):
            code, text = await refusal(channel, path="/inference.GRPCInferenceService/RepositoryModelUnload")
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert "RepositoryModelUnload is not offered here" in text

    run(test())


def test_health_has_two_voices() -> None:
    async def test() -> None:
        async with serving() as (channel, door):
            stub: Any = health_pb2_grpc.HealthStub(channel)
            states = health_pb2.HealthCheckResponse

            async def status(service: str) -> int:
                return int((await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status)

            assert await status("live") == states.SERVING
            assert await status("") == states.NOT_SERVING
            await door.set_ready(True)
            assert await status("") == await status("inference.GRPCInferenceService") == states.SERVING

    run(test())


def test_reflection_lists_the_services() -> None:
    async def test() -> None:
        async with serving() as (channel, _):
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            async for reply in stub.ServerReflectionInfo(asked, timeout=5):
                names = {service.name for service in reply.list_services_response.service}
        assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names

    run(test())


def test_a_taken_port_is_named_with_its_setting() -> None:
    async def test() -> None:
        async with serving() as (_, door):
            config = door._settings
            second = GrpcioDoor([], config)
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{config.port}"):
                await second.open()
            await second.close(0)

    run(test())


def test_closing_lets_the_calls_in_flight_end() -> None:
    async def test() -> None:
        started = asyncio.Event()

        async def slow(_request: Any, _call: Call) -> Any:
            started.set()
            await asyncio.sleep(0.2)
            return pb.ModelInferResponse(id="done")

        async with serving(slow) as (channel, door):
            call = asyncio.ensure_future(channel.unary_unary(INFER)(b"", timeout=5))
            await started.wait()
            await door.close(5)
            assert pb.ModelInferResponse.FromString(await call).id == "done"

    run(test())


def test_closing_answers_what_a_stream_has_sent_and_then_ends_it() -> None:
    async def test() -> None:
        taken, release = asyncio.Semaphore(0), asyncio.Event()

        async def slow(request: pb.ModelInferRequest, call: Call) -> Any:
            taken.release()
            await release.wait()
            return await echo(request, call)

        async with serving(slow) as (channel, door):
            stream = channel.stream_stream(STREAM, response_deserializer=pb.ModelStreamInferResponse.FromString)()
            for number in range(3):
                await stream.write(pb.ModelInferRequest(id=str(number)).SerializeToString())
                await taken.acquire()
            closing = asyncio.ensure_future(door.close(60))
            await asyncio.sleep(0)  # it begins
            release.set()
            assert [(await stream.read()).infer_response.id for _ in range(3)] == ["0", "1", "2"]
            with pytest.raises(aio.AioRpcError, match="this replica is stopping") as ended:
                await stream.read()
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            await closing

    run(test())


class Endless:
    """A service with a stream that ends when it drains, and never otherwise."""

    def __init__(self, settings: StageSettings) -> None:
        self.door = GrpcioDoor([methods_of(REPOSITORY_SERVICE, self)], settings)
        self.said: list[str] = []
        self._end = asyncio.Event()

    async def watch(self, _request: Any, _call: Call) -> AsyncIterator[rp.CatalogueUpdate]:
        yield rp.CatalogueUpdate(revision=1)
        await self._end.wait()
        raise errors.Draining("watch it again")

    async def start(self) -> None:
        self.said.append("started")

    async def drain(self) -> None:
        self.said.append("drained")
        self._end.set()

    async def close(self) -> None:
        self.said.append("closed")


def test_a_service_that_drains_ends_its_streams_before_the_door_waits_for_them() -> None:
    async def test() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            config = StageSettings(port=free.getsockname()[1], drain_s=0, grace_s=3600)
        service = Endless(config)
        await service.door.open()
        async with aio.insecure_channel(f"127.0.0.1:{config.port}") as channel:
            watch: Any = channel.unary_stream(WATCH, response_deserializer=rp.CatalogueUpdate.FromString)
            stream = watch(b"")
            assert (await stream.read()).revision == 1
            await asyncio.wait_for(shut_down(service, config), 60)
            with pytest.raises(aio.AioRpcError, match="watch it again"):
                await stream.read()
        assert service.said == ["drained", "closed"]

    run(test())
