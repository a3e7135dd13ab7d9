"""Calls of triptych.v1.Jobs and google.longrunning.Operations, each with a deadline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import grpc
from google.longrunning import operations_pb2 as lro
from google.protobuf.message_factory import GetMessageClass

from triptych.protocol import jobs_pb2 as jp
from triptych_client.connection import Metadata, Tls, failure_of, metadata_of, open_channel
from triptych_client.errors import RequestFailed

MAX_MESSAGE_BYTES: Final = 16 << 20  # the service sends pieces of 1 MiB
_SERVICES: Final = (jp.DESCRIPTOR.services_by_name["Jobs"], lro.DESCRIPTOR.services_by_name["Operations"])


class JobCalls:
    """A connection to the service of jobs. Methods raise `RequestFailed`. Any thread may use it."""

    def __init__(self, address: str, tls: Tls | None, metadata: Metadata | None) -> None:
        """Raises `InvalidOptions` for files of TLS that cannot be used."""
        self.address, self._metadata = address, metadata
        self._channel = open_channel(address, tls, MAX_MESSAGE_BYTES)
        self._methods = {
            method.name: getattr(self._channel, _kind(method))(
                f"/{service.full_name}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            for service in _SERVICES
            for method in service.methods
        }

    def answer(self, method: str, request: Any, timeout_s: float) -> Any:
        """The answer to a message, or to an iterator of messages."""
        try:
            return self._methods[method](request, timeout=timeout_s, metadata=metadata_of(self._metadata))
        except grpc.RpcError as error:
            raise failure_of(error, self.address) from None
        except ValueError as error:  # the channel was closed by another thread
            raise RequestFailed("CANCELLED", str(error)) from None

    def stream(self, method: str, request: Any, timeout_s: float) -> ReplyStream:
        """The answers to a message as they come."""
        try:
            call = self._methods[method](request, timeout=timeout_s, metadata=metadata_of(self._metadata))
        except ValueError as error:
            raise RequestFailed("CANCELLED", str(error)) from None
        return ReplyStream(call, self.address)

    def close(self) -> None:
        self._channel.close()


class ReplyStream:
    """Iterates over replies. `cancel` ends it, from any thread."""

    def __init__(self, call: Any, address: str) -> None:
        self._call, self._address = call, address

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._call
        except grpc.RpcError as error:
            raise failure_of(error, self._address) from None

    def cancel(self) -> None:
        self._call.cancel()


def _kind(method: Any) -> str:
    """The method of a channel: `unary_stream` and so on."""
    directions = (method.client_streaming, method.server_streaming)
    return "_".join("stream" if streams else "unary" for streams in directions)
