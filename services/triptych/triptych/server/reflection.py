"""Server reflection as services for any of the servers. grpcurl, evans and ghz read the protocol from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha.reflection import aio

from triptych.errors import InvalidRequest
from triptych.protocol.call import Call
from triptych.protocol.methods import Method, Service

# Version 1 has the messages of v1alpha in another package. grpcurl calls it first, evans before 0.10 only v1alpha.
NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
MAX_REQUEST_BYTES = 16_384  # every answer repeats its request


def reflection(services: Sequence[str]) -> list[Service]:
    """Both versions of the service. They list `services` and themselves."""
    _describe_v1()
    servicer: Any = aio.ReflectionServicer([*services, *NAMES])

    async def answer(requests: AsyncIterator[Any], _call: Call) -> AsyncIterator[pb.ServerReflectionResponse]:
        async for response in servicer.ServerReflectionInfo(_checked(requests), None):
            yield response

    method = Method("ServerReflectionInfo", pb.ServerReflectionRequest, answer, True, True)
    return [Service(name, (method,)) for name in NAMES]


def _describe_v1() -> None:
    """Add the descriptors of version 1, which the package lacks, from those of v1alpha."""
    pool = pb.DESCRIPTOR.pool
    name = "grpc/reflection/v1/reflection.proto"
    try:
        pool.FindFileByName(name)
    except KeyError:
        file = FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
        file.name, file.package = name, "grpc.reflection.v1"
        _rename_types(file)
        pool.Add(file)


def _rename_types(file: FileDescriptorProto) -> None:
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = _renamed(field.type_name)
    for service in file.service:
        for method in service.method:
            method.input_type, method.output_type = _renamed(method.input_type), _renamed(method.output_type)


def _renamed(type_name: str) -> str:
    return type_name.replace(".grpc.reflection.v1alpha.", ".grpc.reflection.v1.")


async def _checked(requests: AsyncIterator[Any]) -> AsyncIterator[pb.ServerReflectionRequest]:
    async for parse in requests:
        request = parse()
        if (size_bytes := request.ByteSize()) > MAX_REQUEST_BYTES:
            raise InvalidRequest(f"want at most {MAX_REQUEST_BYTES} bytes in a request, got {size_bytes}")
        yield request
