"""Calls to upstreams. Every call has a deadline, and foreign errors are translated only here."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2 as pb

from triptych.client.transport import Channel, Transport
from triptych.errors import (
    ContractViolation,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    NotLoaded,
    Overloaded,
    StageUnavailable,
    TriptychError,
)
from triptych.http2.client_stream import CallFailed, LastingCall
from triptych.protocol.call import Call
from triptych.protocol.methods import encoded
from triptych.protocol.parsing import parser
from triptych.protocol.status import STAGE_ERROR, Relayed, retry_after_of
from triptych.runtime.settings import StageSettings
from triptych.runtime.tls import UpstreamCredentials, upstream_credentials
from triptych.telemetry.failure_log import FailureLog

log = logging.getLogger(__name__)

REACH_TIMEOUT_S = 1.0
REACH_PAUSE_S = 0.2

CERTIFICATE_CHECK_S = 10.0  # between two checks whether certificates were renewed

# Codes that a stage answers on purpose, with a sentence for the caller.
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

ABANDONED_S = 60.0  # how much longer an inference may last that nobody awaits any more


class Upstream:
    """Calls to one address of a part, such as "predictor".

    relays: pass the part's status and sentence on to our caller, as for a stage.
    retries: send a call again that failed with UNAVAILABLE, where the address stands for several replicas.
    transport: that of the process, whose limits all upstreams share.
    metadata: sent with every call.
    credentials: use TLS; renewed certificates open a new connection.
    server_name: name required in the certificate, by default the host of the address.
    translate: error for part, address and message of a failed call; None leaves it to the status code.
    """

    def __init__(
        self,
        part: str,
        address: str,
        *services: ServiceDescriptor,
        relays: bool,
        retries: bool = False,
        transport: Transport | None = None,
        metadata: tuple[tuple[str, str], ...] = (),
        credentials: UpstreamCredentials | None = None,
        server_name: str = "",
        translate: Callable[[str, str, str], TriptychError | None] | None = None,
    ) -> None:
        self.part, self.address, self._relays, self._metadata = part, address, relays, metadata
        self._translate_message, self._credentials = translate, credentials
        self._transport, self._server_name, self._retries = transport or Transport(), server_name, retries
        self._methods = {
            method.name: (f"/{service.full_name}/{method.name}", self._parser(GetMessageClass(method.output_type)))
            for service in services
            for method in service.methods
        }
        self._checked_s = time.monotonic()
        self._channel = self._transport.channel(address, credentials, server_name, retries)
        self._retired: list[Channel] = []

    @classmethod
    def of_stage(
        cls,
        settings: StageSettings,
        part: str,
        address: str,
        *services: ServiceDescriptor,
        relays: bool,
        transport: Transport,
    ) -> Upstream:
        """The replicas of a stage, with the certificates of the settings. Raises `OSError`."""
        credentials = upstream_credentials(settings)
        return cls(
            part,
            address,
            *services,
            relays=relays,
            retries=True,
            transport=transport,
            credentials=credentials,
        )

    async def call(
        self,
        method: str,
        request: Any,
        call: Call,
        limit_s: float = float("inf"),
        lasting: LastingCall | None = None,
    ) -> Any:
        """Answer of a unary method within the call's deadline and `limit_s`. The request may be encoded already."""
        timeout_s = call.remaining_s(limit_s)
        if self._credentials is not None:
            self._renew(self._credentials)
        path, parse = self._methods[method]
        metadata = (*self._metadata, *call.trace_metadata())
        try:
            return parse(await self._channel.unary(path, encoded(request), timeout_s, metadata, lasting))
        except CallFailed as error:
            self._translate(error, timeout_s)
        except InvalidRequest as error:
            raise self._unreadable(error) from error

    async def stream(self, method: str, request: Any) -> AsyncGenerator[Any]:
        """Answers of a server-streaming method, until either side ends it."""
        if self._credentials is not None:
            self._renew(self._credentials)
        path, parse = self._methods[method]
        try:
            async with aclosing(self._channel.stream(path, request.SerializeToString(), self._metadata)) as answers:
                async for answer in answers:
                    yield parse(answer)
        except CallFailed as error:
            self._translate(error, float("inf"))
        except InvalidRequest as error:
            raise self._unreadable(error) from error

    async def reach(self) -> None:
        """Return once the upstream, an OIP server, is live."""
        failures = FailureLog(log)
        while True:
            try:
                await self.call("ServerLive", pb.ServerLiveRequest(), Call.within(REACH_TIMEOUT_S))
                return
            except TriptychError as error:
                failures.failed(
                    self.part, "waiting for an upstream", level=logging.INFO, part=self.part, reason=str(error)
                )
                await asyncio.sleep(REACH_PAUSE_S)

    async def close(self) -> None:
        for channel in (self._channel, *self._retired):
            await channel.close()

    def _parser(self, message: type[Message]) -> Callable[[bytes], Any]:
        """Only answers of models come from parts that nobody vouches for. A catalog may have a million fields."""
        of_model = issubclass(message, pb.ModelInferResponse)
        return parser(message, self._transport.limits.max_message_bytes if of_model else math.inf)

    def _unreadable(self, error: InvalidRequest) -> Internal:
        return Internal(f"{self.part} at {self.address} answered what cannot be read: {error}")

    def _renew(self, credentials: UpstreamCredentials) -> None:
        if time.monotonic() - self._checked_s < CERTIFICATE_CHECK_S:
            return
        self._checked_s = time.monotonic()
        if not credentials.is_renewed():
            return
        try:
            renewed = self._transport.channel(self.address, credentials, self._server_name, self._retries)
        except OSError:
            return  # in the middle of a renewal: keep the current channel
        retired, self._channel = self._channel, renewed
        retired.retire()
        self._retired = [retired]
        log.info("certificates renewed", extra={"part": self.part, "address": self.address})

    def _translate(self, error: CallFailed, timeout_s: float) -> NoReturn:
        code, details = error.code, error.details
        where = f"{self.part} at {self.address}"
        if error.refusal is not None:
            raise type(error.refusal)(f"the answer of {where}: {error.refusal}") from error
        if self._relays and code in RELAYED and STAGE_ERROR in error.trailers:
            raise Relayed(code, details, retry_after_of(error.trailers)) from error
        if (
            self._translate_message is not None
            and (known := self._translate_message(self.part, self.address, details)) is not None
        ):
            raise known from error
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            raise StageUnavailable(self.part, self.address, details) from error
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise DeadlineExceeded(f"{where} did not answer within {timeout_s:.3f} s") from error
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise Overloaded(f"{where} is full: {details}") from error
        if code is grpc.StatusCode.NOT_FOUND:
            raise NotLoaded(f"{where}: {code.name}: {details}") from error
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            raise ContractViolation(f"{where} refused what the contract made: {code.name}: {details}") from error
        raise Internal(f"{where}: {code.name}: {details}", details) from error


class InFlightInferences:
    """Inferences in flight on one Triton. They are never cancelled, and do not have the caller's deadline.

    Triton 2.51 may crash when a call is cancelled (docs/decisions/2026-11-21-triton-is-not-cancelled.md). If a caller
    stops waiting, its call runs on.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._count = 0
        self.abandoned = 0  # calls that nobody waits for
        self.ended_s = time.monotonic()  # when the last one ended

    def __len__(self) -> int:
        """Number of calls that Triton has not answered, abandoned ones included."""
        return self._count

    async def infer(self, request: Any, call: Call, limit_s: float) -> pb.ModelInferResponse:
        """Answer within the call's deadline and `limit_s`. Raises what `Upstream.call` raises.

        `limit_s` is the longest time that any caller may wait. The call to Triton ends `ABANDONED_S` later.
        """
        lasting = LastingCall(limit_s + ABANDONED_S, self._abandoned_ended)
        self._count += 1
        try:
            answer: pb.ModelInferResponse = await self._upstream.call("ModelInfer", request, call, limit_s, lasting)
            return answer
        finally:
            if lasting.is_abandoned:
                self.abandoned += 1
            else:
                self._ended()

    def _abandoned_ended(self) -> None:
        self.abandoned -= 1
        self._ended()

    def _ended(self) -> None:
        self._count -= 1
        self.ended_s = time.monotonic()
