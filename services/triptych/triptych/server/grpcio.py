"""gRPC server on grpc.aio: the reference implementation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc
from grpc import aio

from triptych.http2.framing import metadata_fault
from triptych.protocol.call import Call
from triptych.protocol.methods import Method, Service, encoded
from triptych.protocol.parsing import parser
from triptych.runtime.addresses import join
from triptych.runtime.settings import METADATA_FACTOR, StageSettings
from triptych.runtime.tls import server_credentials
from triptych.server.base import GrpcServer, refusal, stream_request

# gRPC counts a reset stream until its call has ended, and refuses streams over the limit. Without a limit, thousands of
# resets took 2.1 GB. Clients of the C core do not retry a refused stream: of 5,000 calls at once 1,363 were lost with a
# limit of 1,024, and none with 4,096 (docs/decisions/2026-11-28-resets.md).
STREAMS_FACTOR = 4
MAX_STREAMS = (1 << 31) - 1


_NAMES = ("x509_subject_alternative_name", "x509_common_name")


class _CallerGone(logging.Filter):
    """Drops the error that grpc.aio logs when a write fails because the caller has just left."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], aio.InternalError))


_CALLER_GONE = _CallerGone()


class GrpcioServer(GrpcServer):
    """Serves with grpc.aio."""

    def __init__(self, services: Sequence[Service], settings: StageSettings) -> None:
        super().__init__(services, settings)
        self._server = aio.server(options=_options(settings))
        self._stopped: asyncio.Task[None] | None = None
        for service in self.services:
            self._server.add_generic_rpc_handlers((_handler(service, self),))

    async def open(self) -> None:
        settings = self.settings
        address = join(settings.host, settings.port)
        credentials = server_credentials(settings)
        prefix = settings.prefix()
        fault = f"cannot listen on {address}: is it in use? {prefix}PORT and {prefix}HOST set others"
        try:
            if credentials is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(fault) from error
        if bound == 0:
            raise OSError(fault)
        self.port = bound
        logging.getLogger("grpc._cython.cygrpc").addFilter(_CALLER_GONE)
        await self._server.start()

    async def send_goaway(self, grace_s: float) -> None:
        """Start to stop. grpc.aio answers CANCELLED to calls that arrive at this moment, and no client retries that.

        1 to 3 of 7,500 calls were lost so in four restarts (grpc#41785), and none if connections had aged, as in the
        chart.
        """
        self._stopped = asyncio.create_task(self._server.stop(grace_s))

    async def stop(self, grace_s: float) -> None:
        if self._stopped is not None:
            await self._stopped


# A connection is closed after `connection_age_s` (streams on it continue), so that callers of a Service find new
# replicas, and leave a draining one before it refuses them: the chart's preStopSeconds and drainSeconds together are
# longer. While all stages were replaced, 22 of 5,705 calls of one client were lost without it, and 0 of 9,709 with it
# (2026-11-21, two replicas of each). It is off behind Knative's queue-proxy, which runs in the same pod: a proxy in Go
# cannot retry a request that it wrote while the connection was closing, and answers 502 (1 of 3,750 requests with an
# age of 0.1 s, "cannot rewind body after connection loss").
def _options(settings: StageSettings) -> list[tuple[str, int]]:
    metadata_bytes = METADATA_FACTOR * settings.max_metadata_bytes
    age = [("grpc.max_connection_age_ms", int(settings.connection_age_s * 1000))] if settings.connection_age_s else []
    return [
        *age,
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Between these two values gRPC refuses at random, by default from 8 KiB on. Our own check refuses below both.
        ("grpc.max_metadata_size", metadata_bytes),
        ("grpc.absolute_max_metadata_size", metadata_bytes),
        ("grpc.max_concurrent_streams", min(STREAMS_FACTOR * settings.max_concurrent_streams, MAX_STREAMS)),
        ("grpc.so_reuseport", 0),  # a second process on the port is an error, not half of the traffic
        ("grpc.keepalive_permit_without_calls", 1),
        # Clients in Go and Java ping at most every 10 s, those of Node and Python as often as they are configured.
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ]


def _handler(service: Service, server: GrpcioServer) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        service.full_name,
        {method.name: _method_handler(service.full_name, method, server) for method in service.methods},
    )


def _method_handler(service: str, method: Method, server: GrpcioServer) -> grpc.RpcMethodHandler[Any, Any]:
    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(_both_streaming(service, method, server))
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(_server_streaming(service, method, server))
    return grpc.unary_unary_rpc_method_handler(_unary(service, method, server))


def _unary(service: str, method: Method, server: GrpcioServer) -> Callable[[bytes, Any], Any]:
    answer, parse = method.answer, parser(method.request, server.settings.max_message_bytes)

    async def handle(data: bytes, context: aio.ServicerContext[Any, Any]) -> bytes:
        call: Call | None = None
        try:
            request, call = parse(data), _call(server, service, context)
            response: bytes = (await answer(request, call)).SerializeToString()
        except (Exception, asyncio.CancelledError) as error:
            request_id = call.failed_request if call else ""
            return await _refuse(context, error, method.name, server.settings, request_id)
        call.settle("OK")
        return response

    return handle


def _server_streaming(service: str, method: Method, server: GrpcioServer) -> Callable[[bytes, Any], Any]:
    parse = parser(method.request, server.settings.max_message_bytes)

    async def handle(data: bytes, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        try:
            call = _call(server, service, context, endless=True)
            async with aclosing(method.answer(stream_request(parse, data), call)) as answers:
                async for response in answers:
                    yield encoded(response)
                    del response  # the next one may never come
        except Exception as error:
            await _refuse(context, error, method.name, server.settings)

    return handle


def _both_streaming(service: str, method: Method, server: GrpcioServer) -> Callable[[AsyncIterator[bytes], Any], Any]:
    parse = parser(method.request, server.settings.max_message_bytes)

    async def handle(stream: AsyncIterator[bytes], context: aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        try:
            call = _call(server, service, context, endless=True)
            async with aclosing(method.answer(server.unparsed(aiter(stream), parse), call)) as answers:
                async for response in answers:
                    yield encoded(response)
                    del response  # the next one may never come
        except Exception as error:
            await _refuse(context, error, method.name, server.settings)

    return handle


def _call(server: GrpcioServer, service: str, context: aio.ServicerContext[Any, Any], *, endless: bool = False) -> Call:
    entries = context.invocation_metadata() or ()
    if fault := metadata_fault(entries, server.settings.max_metadata_bytes):
        raise fault
    metadata = {key: value for key, value in entries if isinstance(value, str)}
    call = server.admit(service, context.time_remaining(), metadata, endless=endless)
    call.ask_peer = context.peer
    call.ask_identity = partial(_certificate_names, context)
    return call


def _certificate_names(context: aio.ServicerContext[Any, Any]) -> frozenset[str]:
    """Subject alternative names and common name of the caller's verified certificate."""
    properties = context.auth_context()
    return frozenset(name.decode() for key in _NAMES for name in properties.get(key, ()))


async def _refuse(
    context: aio.ServicerContext[Any, Any],
    error: BaseException,
    method: str,
    settings: StageSettings,
    request_id: str = "",
) -> bytes:
    """End the call with the status of its error."""
    if not isinstance(error, Exception):
        raise error
    await context.abort(*refusal(error, method, request_id, shows_cause=settings.show_internal_errors))
    raise AssertionError("abort returns")  # pragma: no cover
