"""gRPC's interop service (grpc.testing.TestService) on the method table, behind the configured server."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

from tests.fakes.scripted.settings import Settings
from triptych.protocol.call import Call
from triptych.protocol.methods import methods_of
from triptych.protocol.status import Relayed
from triptych.server import GrpcServer, server_for

PROTO = Path(__file__).with_name("testing.proto")
NAME = "grpc.testing.TestService"
# In cancel_after_begin grpc-go may end its empty stream before it cancels; an answer at once would win the race.
CANCEL_WAIT_S = 5.0


@cache
def service() -> Any:
    """Descriptor of the service, compiled from `testing.proto`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "set")
        if protoc.main(["protoc", f"-I{PROTO.parent}", f"--descriptor_set_out={out}", str(PROTO)]):
            raise ValueError(f"{PROTO}: cannot be compiled")
        described = FileDescriptorSet.FromString(out.read_bytes())
    pool: Any = descriptor_pool
    for file in described.file:
        pool.Default().Add(file)
    return pool.Default().FindServiceByName(NAME)


def answer_of(method: str, **fields: Any) -> Any:
    """Response message of a method."""
    return GetMessageClass(service().methods_by_name[method].output_type)(**fields)


def payload(size: int) -> dict[str, bytes]:
    return {"body": bytes(size)}


def raise_asked(request: Any) -> None:
    """Fail with the status in the request, if it has one."""
    asked = request.response_status
    if asked.code:
        code = next(code for code in grpc.StatusCode if code.value[0] == asked.code)
        raise Relayed(code, asked.message)


class TestService:
    """Service that the public descriptions of the interop cases specify."""

    async def empty_call(self, _request: Any, _call: Call) -> Any:
        return answer_of("EmptyCall")

    async def unary_call(self, request: Any, _call: Call) -> Any:
        raise_asked(request)
        return answer_of("UnaryCall", payload=payload(request.response_size))

    async def streaming_output_call(self, request: Any, _call: Call) -> AsyncIterator[Any]:
        async for answer in self._answers(request, "StreamingOutputCall"):
            yield answer

    async def streaming_input_call(self, requests: AsyncIterator[Any], _call: Call) -> AsyncIterator[Any]:
        sizes = [len(parse().payload.body) async for parse in requests]
        if not sizes:
            await asyncio.sleep(CANCEL_WAIT_S)
        yield answer_of("StreamingInputCall", aggregated_payload_size=sum(sizes))

    async def full_duplex_call(self, requests: AsyncIterator[Any], _call: Call) -> AsyncIterator[Any]:
        async for parse in requests:
            raise_asked(request := parse())
            async for answer in self._answers(request, "FullDuplexCall"):
                yield answer

    async def _answers(self, request: Any, method: str) -> AsyncIterator[Any]:
        for wanted in request.response_parameters:
            await asyncio.sleep(wanted.interval_us / 1e6)
            yield answer_of(method, payload=payload(wanted.size))


class Stage:
    """Stage that has only a server."""

    def __init__(self, settings: Settings) -> None:
        self.server: GrpcServer = server_for([methods_of(service(), TestService())], settings)

    async def start(self) -> None:
        return

    async def close(self) -> None:
        return


async def build(settings: Settings) -> Stage:
    return Stage(settings)
