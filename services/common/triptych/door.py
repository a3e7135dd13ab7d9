"""The gRPC server in front of a servicer: grpc.aio, the reference door.

It turns bytes into messages and errors into status; it decides nothing else. Everything that it needs from a servicer
is the table of `triptych.methods`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from triptych.call import Call
from triptych.errors import Draining, InvalidRequest
from triptych.methods import Method, Service
from triptych.settings import StageSettings
from triptych.status import status_of, trailers_of

log = logging.getLogger(__name__)

REFUSE_S = 0.2

STOPPING = "this replica is stopping; send the request again"


class GrpcioDoor:
    """Serves `services` beside grpc.health.v1 and reflection on one port."""

    def __init__(self, services: Sequence[Service], settings: StageSettings) -> None:
        self._services = services
        self._closing = asyncio.Event()
        self._settings = settings
        self._health = health.aio.HealthServicer()
        self._server = aio.server(options=_options(settings))
        for service in services:
            self._server.add_generic_rpc_handlers((_handler(service, self),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [service.full_name for service in services]
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)

    async def open(self) -> None:
        """Binds the port and serves, at first as NOT_SERVING. Raises `OSError` when the port is taken."""
        settings = self._settings
        address = f"{settings.host}:{settings.port}"
        prefix = settings.model_config.get("env_prefix", "")
        await self.set_ready(False)
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}; is it in use? {prefix}PORT sets another") from error
        if bound == 0:
            raise OSError(f"cannot listen on {address}: is it in use? {prefix}PORT sets another")
        await self._server.start()

    async def set_ready(self, ready: bool) -> None:
        """The readiness voice, for the whole server (empty name) and for each service by name."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *(service.full_name for service in self._services)):
            await self._health.set(name, status)
        # Live: this loop turned. A probe names it to tell the two voices apart.
        await self._health.set("live", health_pb2.HealthCheckResponse.SERVING)

    def admit(self, context: aio.ServicerContext[Any, Any], timeout_s: float | None = None) -> Call:
        """The call, unless this process is stopping."""
        if self._closing.is_set():
            raise Draining(STOPPING)
        return _call(context, timeout_s or self._settings.request_timeout_s)

    async def until_closing(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The messages of a caller's stream; raises `Draining` in place of the next when this process is stopping.

        A stream has no end that one could wait for: this way what was taken is answered before it ends.
        """
        closing = asyncio.ensure_future(self._closing.wait())
        reading = asyncio.ensure_future(anext(stream))
        try:
            while await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED):
                if not reading.done():
                    raise Draining(STOPPING)
                try:
                    message = reading.result()
                except StopAsyncIteration:
                    return
                yield message
                if closing.done():
                    raise Draining(STOPPING)
                reading = asyncio.ensure_future(anext(stream))
        finally:
            closing.cancel()
            reading.cancel()

    async def close(self, grace_s: float) -> None:
        """Refuses new calls as UNAVAILABLE, then gives those in flight `grace_s` seconds.

        The pause between is for callers that send on: grpc.aio answers CANCELLED to a call that it takes in the
        moment of stopping, and nobody retries that.
        """
        self._closing.set()
        await asyncio.sleep(min(REFUSE_S, grace_s))
        await self._server.stop(grace_s)


# A connection is closed after `connection_age_s` (streams on it go on), so that callers of a Service find new replicas,
# and have left one that is going before it refuses them: the chart's preStopSeconds and drainSeconds are longer
# together. Of 5,705 calls of one client 22 were lost without it while all stages were replaced, and 0 of 9,709 with it
# (2026-11-21, two replicas of each). Not behind Knative's queue-proxy, which stands in the same pod: a proxy in Go
# cannot send a request again that it wrote while the connection was closing, and answers 502 (1 of 3,750 requests with
# an age of 0.1 s, "cannot rewind body after connection loss").
def _options(settings: StageSettings) -> list[tuple[str, int]]:
    age = [("grpc.max_connection_age_ms", int(settings.connection_age_s * 1000))] if settings.connection_age_s else []
    return [
        *age,
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.so_reuseport", 0),  # a second process on the port is an error, not half of the traffic
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]


def _handler(service: Service, door: GrpcioDoor) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        service.full_name, {method.name: _method_handler(method, door) for method in service.methods}
    )


def _method_handler(method: Method, door: GrpcioDoor) -> grpc.RpcMethodHandler[Any, Any]:
    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(_both_streaming(method, door))
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(_server_streaming(method, door))
    return grpc.unary_unary_rpc_method_handler(_unary(method, door))


def _unary(method: Method, door: GrpcioDoor) -> Callable[[bytes, Any], Any]:
    answer, parse = method.answer, _parser(method.request)

    async def handle(data: bytes, context: aio.ServicerContext[Any, Any]) -> bytes:
        try:
            response: Message = await answer(parse(data), door.admit(context))
            return response.SerializeToString()
        except (Exception, asyncio.CancelledError) as error:
            return await _refuse(context, error, method.name)

    return handle


def _server_streaming(method: Method, door: GrpcioDoor) -> Callable[[bytes, Any], Any]:
    parse = _parser(method.request)

    async def handle(data: bytes, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        try:
            async for response in method.answer(parse(data), door.admit(context, float("inf"))):
                yield response.SerializeToString()
        except Exception as error:
            await _refuse(context, error, method.name)

    return handle


def _both_streaming(method: Method, door: GrpcioDoor) -> Callable[[AsyncIterator[bytes], Any], Any]:
    parse = _parser(method.request)

    async def requests(stream: AsyncIterator[bytes]) -> AsyncIterator[Message | InvalidRequest]:
        async for data in door.until_closing(aiter(stream)):
            try:
                yield parse(data)
            except InvalidRequest as error:
                yield error

    async def handle(stream: AsyncIterator[bytes], context: aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        try:
            async for response in method.answer(requests(stream), door.admit(context, float("inf"))):
                yield response.SerializeToString()
        except Exception as error:
            await _refuse(context, error, method.name)

    return handle


def _parser(message: type[Message]) -> Callable[[bytes], Message]:
    def parse(data: bytes) -> Message:
        try:
            return message.FromString(data)
        except DecodeError as error:
            name = message.DESCRIPTOR.full_name
            raise InvalidRequest(f"want an encoded {name}, got {len(data)} bytes that are none") from error

    return parse


def _call(context: aio.ServicerContext[Any, Any], timeout_s: float) -> Call:
    left = context.time_remaining()  # None when the caller set no deadline; 0.0 is a deadline
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    return Call.within(timeout_s if left is None else min(left, timeout_s), metadata)


async def _refuse(context: aio.ServicerContext[Any, Any], error: BaseException, method: str) -> bytes:
    """Ends the call with the status of the table."""
    if isinstance(error, asyncio.CancelledError):
        raise error
    code, text = status_of(error)
    if code is grpc.StatusCode.INTERNAL:
        log.error("internal error", exc_info=error, extra={"method": method})
    await context.abort(code, text, trailers_of(error))
    raise AssertionError("abort returns")  # pragma: no cover
