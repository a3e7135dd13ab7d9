"""Calls to other parts. Every one has a deadline, and foreign errors become ours here and nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from tritonclient.grpc import service_pb2 as pb

from triptych.call import Call
from triptych.errors import (
    ContractViolation,
    DeadlineExceeded,
    Internal,
    NotThere,
    Overloaded,
    StageUnavailable,
    TriptychError,
)
from triptych.status import SAID_BY_US, Relayed, retry_after_of

log = logging.getLogger(__name__)

REACH_TIMEOUT_S = 1.0
REACH_PAUSE_S = 0.2

CLOSED = "the connection was closed, for it is not used any more"  # grpc.aio cancels its calls then

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", -1),  # the sender's limit holds
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
    # A headless Service has an address for each pod: use them all, and look again soon when one is gone. The default,
    # 30 s between two looks, is longer than a rolling update takes to replace every address.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.dns_min_time_between_resolutions_ms", 500),
]

# For a name, which stands for replicas: what one refuses because it is leaving, another takes; calls are idempotent.
# Without, 25 of 3,728 calls were lost when the older of two pods was deleted three times, and 0 of 2,917 with it
# (2026-11-21). CANCELLED is what one that was killed at once said of its last calls, 2 of 1,083 (2026-11-21).
# A single address is not asked again: who knows several Tritons goes on to the next one.
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

# Codes that a stage of ours answers on purpose, with a sentence for the caller.
RELAYED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAVAILABLE,
    }
)


class Upstream:
    """One address of another part. `relays` says that its sentences are meant for our caller: a stage of ours.

    `metadata` goes with every call. `credentials` make it TLS.
    """

    def __init__(
        self,
        part: str,
        address: str,
        *services: ServiceDescriptor,
        relays: bool,
        metadata: tuple[tuple[str, str], ...] = (),
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.part, self.address, self._relays, self._metadata = part, address, relays, metadata
        if credentials is None:
            self._channel = aio.insecure_channel(address, options=_options(address))
        else:
            self._channel = aio.secure_channel(address, credentials, options=_options(address))
        self._methods = {method.name: self._bind(service, method) for service in services for method in service.methods}

    async def call(self, method: str, request: Any, call: Call, limit_s: float = float("inf")) -> Any:
        """The answer of a unary method, within the call's deadline and `limit_s`."""
        timeout_s = call.remaining_s(limit_s)
        try:
            metadata = (*self._metadata, *call.trace_metadata())
            return await self._methods[method](request, timeout=timeout_s, metadata=metadata)
        except aio.AioRpcError as error:
            self._translate(error, timeout_s)
        except aio.UsageError as error:
            raise StageUnavailable(self.part, self.address, CLOSED) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise StageUnavailable(self.part, self.address, CLOSED) from None

    async def stream(self, method: str, request: Any) -> AsyncIterator[Any]:
        """The answers of a server-streaming method that lasts until one side ends it."""
        try:
            async for answer in self._methods[method](request, metadata=self._metadata):
                yield answer
        except aio.AioRpcError as error:
            self._translate(error, float("inf"))

    async def reach(self) -> None:
        """Returns once the other side, an OIP server, has said that it is live."""
        said = False
        while True:
            try:
                await self.call("ServerLive", pb.ServerLiveRequest(), Call.within(REACH_TIMEOUT_S))
                return
            except TriptychError as error:
                if not said:
                    log.info("waiting", extra={"part": self.part, "reason": str(error)})
                said = True
                await asyncio.sleep(REACH_PAUSE_S)

    async def close(self) -> None:
        await self._channel.close()

    def _bind(self, service: ServiceDescriptor, method: Any) -> Any:
        make = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
        return make(
            f"/{service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )

    def _translate(self, error: aio.AioRpcError, timeout_s: float) -> NoReturn:
        code, details = error.code(), error.details() or ""
        where = f"{self.part} at {self.address}"
        trailers = error.trailing_metadata() or ()
        if self._relays and code in RELAYED and SAID_BY_US in trailers:
            raise Relayed(code, details, retry_after_of(trailers)) from error
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            raise StageUnavailable(self.part, self.address, details) from error
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise DeadlineExceeded(f"{where} did not answer within {timeout_s:.3f} s") from error
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise Overloaded(f"{where} is full: {details}") from error
        if code is grpc.StatusCode.NOT_FOUND:
            raise NotThere(f"{where}: {code.name}: {details}") from error
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            raise ContractViolation(f"{where} refused what the contract made: {code.name}: {details}") from error
        raise Internal(f"{where}: {code.name}: {details}", details) from error


def _options(address: str) -> list[tuple[str, Any]]:
    try:
        ip_address(address.rpartition(":")[0].strip("[]"))
    except ValueError:
        return [RETRYING if name == RETRYING[0] else (name, value) for name, value in OPTIONS]
    return OPTIONS
