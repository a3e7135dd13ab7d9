"""Server reflection as a table of methods, for every door: grpcurl and ghz ask it for the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha.reflection import aio

from triptych.call import Call
from triptych.errors import InvalidRequest
from triptych.methods import Method, Service

# Version 1 has the messages of v1alpha under another name; tools ask for it first.
NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def reflection(services: Sequence[str]) -> list[Service]:
    """Both versions; they show `services` and the version that has descriptors here."""
    servicer: Any = aio.ReflectionServicer([*services, NAMES[1]])

    async def answer(requests: AsyncIterator[Any], _call: Call) -> AsyncIterator[pb.ServerReflectionResponse]:
        async for response in servicer.ServerReflectionInfo(_only_good(requests), None):
            yield response

    method = Method("ServerReflectionInfo", pb.ServerReflectionRequest, answer, True, True)
    return [Service(name, (method,)) for name in NAMES]


async def _only_good(requests: AsyncIterator[Any]) -> AsyncIterator[pb.ServerReflectionRequest]:
    async for request in requests:
        if isinstance(request, InvalidRequest):
            raise request
        yield request
