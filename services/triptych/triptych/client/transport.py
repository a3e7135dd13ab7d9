"""Transports of outbound calls: our own HTTP/2, or grpcio as the reference. A setting chooses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any, NoReturn, Protocol

import grpc
from grpc import aio

from triptych.http2 import channel as http2
from triptych.http2.channel import Metadata
from triptych.http2.client import CallFailed
from triptych.runtime.tls import UpstreamCredentials

RETIRE_S = 60.0  # limit for the calls in flight of a retired channel


OPTIONS: list[tuple[str, Any]] = [
    ("grpc.enable_http_proxy", 0),  # calls stay inside, whatever the environment says
    ("grpc.max_receive_message_length", -1),  # the sender's limit holds
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

    async def unary(self, path: str, data: bytes, timeout_s: float, metadata: Metadata) -> bytes:
        """Answer of a unary call, within `timeout_s`."""

    def stream(self, path: str, data: bytes, metadata: Metadata) -> AsyncGenerator[bytes]:
        """Answers of a server-streaming call, until either side ends it."""

    def retire(self) -> None:
        """Accept no more calls, and close after the last one."""

    async def close(self) -> None:
        """End all calls."""


def http2_channel(address: str, credentials: UpstreamCredentials | None, server_name: str, retries: bool) -> Channel:
    """A channel on libnghttp2. Raises `OSError` for certificates that cannot be used."""
    return http2.Http2Channel(address, credentials.context() if credentials else None, server_name, retries=retries)


class GrpcioChannel:
    """A channel of grpc.aio."""

    def __init__(self, address: str, credentials: UpstreamCredentials | None, server_name: str, retries: bool) -> None:
        options = _options(retries)
        if server_name:
            options = [*options, ("grpc.ssl_target_name_override", server_name)]
        if credentials is None:
            self._channel = aio.insecure_channel(address, options=options)
        else:
            self._channel = aio.secure_channel(address, credentials.for_grpcio(), options=options)
        self._closing: asyncio.Task[None] | None = None

    async def unary(self, path: str, data: bytes, timeout_s: float, metadata: Metadata) -> bytes:
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


TRANSPORTS: dict[str, Callable[[str, UpstreamCredentials | None, str, bool], Channel]] = {
    "http2": http2_channel,
    "grpcio": GrpcioChannel,
}


def _failed(error: aio.AioRpcError) -> CallFailed:
    trailers = {key: value for key, value in error.trailing_metadata() or () if isinstance(value, str)}
    return CallFailed(error.code(), error.details() or "", trailers)


def _raise_cancelled(error: asyncio.CancelledError) -> NoReturn:
    """Re-raise if our own task was cancelled. Else the channel was closed: raise `CallFailed`."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise error
    raise CallFailed(grpc.StatusCode.UNAVAILABLE, http2.CLOSED) from None


def _options(retries: bool) -> list[tuple[str, Any]]:
    if not retries:
        return OPTIONS
    return [RETRYING if name == RETRYING[0] else (name, value) for name, value in OPTIONS]
