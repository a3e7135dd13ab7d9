"""Calls to other parts. Every one has a deadline, and foreign errors become ours here and nowhere else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2 as pb

from triptych.client.transport import TRANSPORTS, Channel
from triptych.errors import (
    ContractViolation,
    DeadlineExceeded,
    Internal,
    NotThere,
    Overloaded,
    StageUnavailable,
    TriptychError,
)
from triptych.http2.client import CallFailed
from triptych.protocol.call import Call
from triptych.protocol.status import SAID_BY_US, Relayed, retry_after_of
from triptych.runtime.settings import StageSettings
from triptych.runtime.tls import UpstreamCredentials, upstream_credentials

log = logging.getLogger(__name__)

REACH_TIMEOUT_S = 1.0
REACH_PAUSE_S = 0.2

LOOK_S = 10.0  # between two looks whether the files of TLS are others

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
    of a refusal mean, given the part and its address. `transport` names what carries the calls.
    """

    def __init__(
        self,
        part: str,
        address: str,
        *services: ServiceDescriptor,
        relays: bool,
        transport: str = "http2",
        metadata: tuple[tuple[str, str], ...] = (),
        credentials: UpstreamCredentials | None = None,
        server_name: str = "",
        meaning: Callable[[str, str, str], TriptychError | None] | None = None,
    ) -> None:
        self.part, self.address, self._relays, self._metadata = part, address, relays, metadata
        self._meaning, self._credentials = meaning, credentials
        self._transport, self._server_name = TRANSPORTS[transport], server_name
        self._methods = {
            method.name: (f"/{service.full_name}/{method.name}", GetMessageClass(method.output_type).FromString)
            for service in services
            for method in service.methods
        }
        self._looked_s = time.monotonic()
        self._channel = self._transport(address, credentials, server_name)
        self._leaving: list[Channel] = []

    @classmethod
    def of_stage(
        cls, settings: StageSettings, part: str, address: str, *services: ServiceDescriptor, relays: bool
    ) -> Upstream:
        """The way to another stage, with the transport and the certificates of the settings. Raises `OSError`."""
        credentials = upstream_credentials(settings)
        return cls(part, address, *services, relays=relays, transport=settings.transport, credentials=credentials)

    async def call(self, method: str, request: Any, call: Call, limit_s: float = float("inf")) -> Any:
        """The answer of a unary method, within the call's deadline and `limit_s`."""
        timeout_s = call.remaining_s(limit_s)
        if self._credentials is not None:
            self._renew(self._credentials)
        path, parse = self._methods[method]
        metadata = (*self._metadata, *call.trace_metadata())
        try:
            return parse(await self._channel.unary(path, request.SerializeToString(), timeout_s, metadata))
        except CallFailed as error:
            self._translate(error, timeout_s)

    async def stream(self, method: str, request: Any) -> AsyncIterator[Any]:
        """The answers of a server-streaming method that lasts until one side ends it."""
        if self._credentials is not None:
            self._renew(self._credentials)
        path, parse = self._methods[method]
        try:
            async with aclosing(self._channel.stream(path, request.SerializeToString(), self._metadata)) as answers:
                async for answer in answers:
                    yield parse(answer)
        except CallFailed as error:
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
        for channel in (self._channel, *self._leaving):
            await channel.close()

    def _renew(self, credentials: UpstreamCredentials) -> None:
        if time.monotonic() - self._looked_s < LOOK_S:
            return
        self._looked_s = time.monotonic()
        if not credentials.is_renewed():
            return
        try:
            renewed = self._transport(self.address, credentials, self._server_name)
        except OSError:
            return  # in the middle of a renewal; what was read before holds
        leaving, self._channel = self._channel, renewed
        leaving.retire()
        self._leaving = [leaving]
        log.info("renewed", extra={"part": self.part, "address": self.address})

    def _translate(self, error: CallFailed, timeout_s: float) -> NoReturn:
        code, details = error.code, error.details
        where = f"{self.part} at {self.address}"
        if self._relays and code in RELAYED and SAID_BY_US in error.trailers:
            raise Relayed(code, details, retry_after_of(error.trailers)) from error
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
