"""Calls to other parts. Every one has a deadline, and foreign errors become ours here and nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from tritonclient.grpc import service_pb2 as pb

from triptych import addresses
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
from triptych.tls import UpstreamCredentials

log = logging.getLogger(__name__)

REACH_TIMEOUT_S = 1.0
REACH_PAUSE_S = 0.2

LOOK_S = 10.0  # between two looks whether the files of TLS are others
RENEWED_S = 60.0  # a connection with old ones may end its calls for that long

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

ABANDONED_S = 60.0  # an inference that nobody waits for any more may last that much longer


class Upstream:
    """One address of another part. `relays` says that its sentences are meant for our caller: a stage of ours.

    `metadata` goes with every call. `credentials` make it TLS, with a certificate that bears `server_name`, or else the
    host of the address; when they are renewed, calls go over a new connection. `meaning` is asked first what the words
    of a refusal mean, given the part and its address.
    """

    def __init__(
        self,
        part: str,
        address: str,
        *services: ServiceDescriptor,
        relays: bool,
        metadata: tuple[tuple[str, str], ...] = (),
        credentials: UpstreamCredentials | None = None,
        server_name: str = "",
        meaning: Callable[[str, str, str], TriptychError | None] | None = None,
    ) -> None:
        self.part, self.address, self._relays, self._metadata = part, address, relays, metadata
        self._meaning = meaning
        self._services, self._credentials = services, credentials
        self._options = _options(address)
        if server_name:
            self._options = [*self._options, ("grpc.ssl_target_name_override", server_name)]
        self._looked_s, self._leaving = time.monotonic(), set[asyncio.Task[None]]()
        self._open(credentials.first if credentials else None)

    async def call(self, method: str, request: Any, call: Call, limit_s: float = float("inf")) -> Any:
        """The answer of a unary method, within the call's deadline and `limit_s`."""
        timeout_s = call.remaining_s(limit_s)
        self._renew()
        try:
            metadata = (*self._metadata, *call.trace_metadata())
            return await self._methods[method](request, timeout=timeout_s, metadata=metadata)
        except aio.AioRpcError as error:
            self._translate(error, timeout_s)
        except aio.UsageError as error:
            raise StageUnavailable(self.part, self.address, CLOSED) from error
        except asyncio.CancelledError as error:
            self._unless_cancelled(error)

    async def stream(self, method: str, request: Any) -> AsyncIterator[Any]:
        """The answers of a server-streaming method that lasts until one side ends it."""
        self._renew()
        try:
            async for answer in self._methods[method](request, metadata=self._metadata):
                yield answer
        except aio.AioRpcError as error:
            self._translate(error, float("inf"))
        except asyncio.CancelledError as error:
            self._unless_cancelled(error)

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
        for task in self._leaving:
            task.cancel()

    def _open(self, credentials: grpc.ChannelCredentials | None) -> None:
        if credentials is None:
            self._channel = aio.insecure_channel(self.address, options=self._options)
        else:
            self._channel = aio.secure_channel(self.address, credentials, options=self._options)
        self._methods = {
            method.name: self._bind(service, method) for service in self._services for method in service.methods
        }

    def _renew(self) -> None:
        if self._credentials is None or time.monotonic() - self._looked_s < LOOK_S:
            return
        self._looked_s = time.monotonic()
        renewed = self._credentials.news()
        if renewed is not None:
            leaving = asyncio.create_task(self._channel.close(RENEWED_S))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            self._open(renewed)
            log.info("renewed", extra={"part": self.part, "address": self.address})

    def _unless_cancelled(self, error: asyncio.CancelledError) -> NoReturn:
        """That of our own task goes on, that of a closed channel is the other side's absence."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error
        raise StageUnavailable(self.part, self.address, CLOSED) from None

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
        if self._meaning is not None and (known := self._meaning(self.part, self.address, details)) is not None:
            raise known from error
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


class Inferences:
    """Inferences that one Triton works on. They are never cancelled, and never have the caller's deadline.

    Triton 2.51 may crash when a call ends under it (docs/decisions/2026-11-21-triton-is-not-cancelled.md). Whoever
    stops waiting leaves the call to itself.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._tasks: set[asyncio.Task[pb.ModelInferResponse]] = set()
        self.ended_s = time.monotonic()  # when the last one ended

    def __len__(self) -> int:
        """Calls that Triton has not answered, also those that nobody waits for any more."""
        return len(self._tasks)

    async def infer(
        self, request: pb.ModelInferRequest, wait_s: float, limit_s: float, metadata: Mapping[str, str] | None = None
    ) -> pb.ModelInferResponse:
        """Raises what `Upstream.call` raises, and `DeadlineExceeded` after `wait_s`.

        `limit_s` is the longest time that anybody may wait; the call itself ends `ABANDONED_S` later.
        """
        own = Call.within(limit_s + ABANDONED_S, metadata)
        task = asyncio.create_task(self._upstream.call("ModelInfer", request, own))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=wait_s)
        if not done:
            address = self._upstream.address
            raise DeadlineExceeded(f"predictor at {address} did not answer within {wait_s:.3f} s")
        return task.result()

    def _ended(self, task: asyncio.Task[pb.ModelInferResponse]) -> None:
        self._tasks.discard(task)
        self.ended_s = time.monotonic()
        if not task.cancelled():
            task.exception()  # perhaps nobody waits for it any more


def _options(address: str) -> list[tuple[str, Any]]:
    if addresses.is_numeric(address):
        return OPTIONS
    return [RETRYING if name == RETRYING[0] else (name, value) for name, value in OPTIONS]
