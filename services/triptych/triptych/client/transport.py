"""Transports of outbound calls: our own HTTP/2, or grpcio as the reference. A setting chooses."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, NoReturn, Protocol

import grpc
from grpc import aio

from triptych.errors import AnswerTooLarge
from triptych.http2 import channel as http2
from triptych.http2.channel import Metadata
from triptych.http2.client_stream import CallFailed, ClientLimits, LastingCall, refused
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.settings import METADATA_FACTOR, StageSettings
from triptych.runtime.tls import UpstreamCredentials

RETIRE_S = 60.0  # limit for the calls in flight of a retired channel
# gRPC's C core says so of an answer; of a request it is the server that does.
_TOO_LARGE = re.compile(r"CLIENT: (Received message larger than max.*)")

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.enable_http_proxy", 0),  # calls stay inside, whatever the environment says
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
    # A headless Service has an address for each pod: use all of them, and resolve again soon after one is lost. The
    # default of 30 s is longer than a rolling update takes to replace every address.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.dns_min_time_between_resolutions_ms", 500),
]
# The retries of `triptych.http2.channel`.
RETRYING = (
    "grpc.service_config",
    json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "methodConfig": [
                {
                    "name": [{}],
                    "retryPolicy": {
                        "maxAttempts": 5,
                        "initialBackoff": "0.05s",
                        "maxBackoff": "0.2s",
                        "backoffMultiplier": 2,
                        "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                    },
                }
            ],
        }
    ),
)


class Channel(Protocol):
    """Calls to one address. Methods raise `CallFailed`."""

    async def unary(
        self, path: str, data: bytes, timeout_s: float, metadata: Metadata, lasting: LastingCall | None = None
    ) -> bytes:
        """Answer of a unary call, within `timeout_s`. A lasting one is not cancelled with its caller."""

    def stream(self, path: str, data: bytes, metadata: Metadata) -> AsyncGenerator[bytes]:
        """Answers of a server-streaming call, until either side ends it."""

    def retire(self) -> None:
        """Accept no more calls, and close after the last one."""

    async def close(self) -> None:
        """End all calls."""


class Transport:
    """The transport of a process, and the limits that all of its channels share.

    With grpcio each answer has a limit, and not all of them together: the C core does not say what arrives.
    """

    def __init__(self, name: str = "http2", limits: ClientLimits | None = None) -> None:
        self._name, self.limits = name, limits or ClientLimits()

    @classmethod
    def of(cls, settings: StageSettings) -> Transport:
        """The transport and the limits of the settings."""
        in_flight_bytes = InFlightBytes(settings.max_bytes_in_flight)
        limits = ClientLimits(settings.max_message_bytes, settings.max_metadata_bytes, in_flight_bytes)
        return cls(settings.transport, limits)

    def channel(
        self, address: str, credentials: UpstreamCredentials | None = None, server_name: str = "", retries: bool = False
    ) -> Channel:
        """A channel to an address. Raises `OSError` for certificates that cannot be used."""
        if self._name == "grpcio":
            return GrpcioChannel(address, credentials, server_name, retries, self.limits)
        context = credentials.context() if credentials else None
        return http2.Http2Channel(address, context, server_name, retries=retries, limits=self.limits)


class GrpcioChannel:
    """A channel of grpc.aio."""

    def __init__(
        self,
        address: str,
        credentials: UpstreamCredentials | None,
        server_name: str,
        retries: bool,
        limits: ClientLimits,
    ) -> None:
        options = _options(retries, limits)
        if server_name:
            options = [*options, ("grpc.ssl_target_name_override", server_name)]
        if credentials is None:
            self._channel = aio.insecure_channel(address, options=options)
        else:
            self._channel = aio.secure_channel(address, credentials.for_grpcio(), options=options)
        self._closing: asyncio.Task[None] | None = None

    async def unary(
        self, path: str, data: bytes, timeout_s: float, metadata: Metadata, lasting: LastingCall | None = None
    ) -> bytes:
        if lasting is not None:
            return await _lasting(self.unary(path, data, lasting.limit_s, metadata), timeout_s, lasting)
        try:
            call: Any = self._channel.unary_unary(path)
            answer: bytes = await call(data, timeout=timeout_s, metadata=tuple(metadata))
        except aio.AioRpcError as error:
            raise _failed(error) from error
        except aio.UsageError as error:
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, http2.CLOSED) from error
        except asyncio.CancelledError as error:
            _raise_cancelled(error)
        return answer

    async def stream(self, path: str, data: bytes, metadata: Metadata) -> AsyncGenerator[bytes]:
        try:
            call: Any = self._channel.unary_stream(path)
            async for answer in call(data, metadata=tuple(metadata)):
                yield answer
        except aio.AioRpcError as error:
            raise _failed(error) from error
        except asyncio.CancelledError as error:
            _raise_cancelled(error)

    def retire(self) -> None:
        self._closing = asyncio.create_task(self._channel.close(RETIRE_S))

    async def close(self) -> None:
        await self._channel.close()
        if self._closing is not None:
            self._closing.cancel()


async def _lasting(call: Coroutine[Any, Any, bytes], timeout_s: float, lasting: LastingCall) -> bytes:
    """Result of a call within `timeout_s`. Later it goes on in its task."""
    task = asyncio.create_task(call)

    def ended(_task: asyncio.Task[bytes]) -> None:
        if not task.cancelled():
            task.exception()  # marks it as retrieved: nobody awaits it
        lasting.on_end()

    try:
        await asyncio.wait({task}, timeout=timeout_s)  # whose cancellation leaves the task as it is
    finally:
        if not task.done():
            lasting.is_abandoned = True
            task.add_done_callback(ended)
    if not task.done():
        raise CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer came within {timeout_s:.3f} s")
    return task.result()


def _failed(error: aio.AioRpcError) -> CallFailed:
    details = error.details() or ""
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and (found := _TOO_LARGE.match(details)):
        return refused(AnswerTooLarge(found[1]))
    trailers = {key: value for key, value in error.trailing_metadata() or () if isinstance(value, str)}
    return CallFailed(error.code(), details, trailers)


def _raise_cancelled(error: asyncio.CancelledError) -> NoReturn:
    """Re-raise if our own task was cancelled. Else the channel was closed: raise `CallFailed`."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise error
    raise CallFailed(grpc.StatusCode.UNAVAILABLE, http2.CLOSED) from None


def _options(retries: bool, limits: ClientLimits) -> list[tuple[str, Any]]:
    metadata_bytes = METADATA_FACTOR * limits.max_metadata_bytes
    own = [
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        # Between these two values gRPC refuses at random.
        ("grpc.max_metadata_size", metadata_bytes),
        ("grpc.absolute_max_metadata_size", metadata_bytes),
    ]
    return [*own, *(RETRYING if retries and name == RETRYING[0] else (name, value) for name, value in OPTIONS)]
