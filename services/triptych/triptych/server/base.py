"""Base of the gRPC servers: admission of calls, health, reflection, and graceful shutdown."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial

import grpc
from google.protobuf.message import Message

from triptych.errors import Draining, InvalidRequest, clipped
from triptych.protocol.call import Call
from triptych.protocol.methods import Service, methods_of
from triptych.protocol.request_ids import new_request_id
from triptych.protocol.status import status_of, trailers_of
from triptych.runtime.settings import StageSettings
from triptych.server import health, reflection

log = logging.getLogger("triptych.server")

# Time for calls that were sent before their caller read the GOAWAY. Of 7,900 to 9,000 calls of a client 138 to 209 were
# lost in four restarts while the port stayed open and calls were refused, and 0 of 9,100 to 11,700 without refusals
# (grpc-go, grpc-java, grpc-js, grpcio, 8 callers, 2026-11-28).
GOAWAY_GRACE_S = 0.5

# Size of the request of a server stream. It is held as long as the stream lasts, and no method needs more.
MAX_STREAM_REQUEST_BYTES = 4_096

STOPPING = "this replica is stopping; send the request again"


class GrpcServer(ABC):
    """Serves services, grpc.health.v1 and reflection on one port. Raises `OSError` if the port is not available."""

    def __init__(self, services: Sequence[Service], settings: StageSettings) -> None:
        self.settings = settings
        self.port = settings.port  # the listening port, once it is open
        self._closing = asyncio.Event()
        self._request_timeout_s = settings.request_timeout_s  # read once: settings are slow to read
        names = [service.full_name for service in services]
        self._health = health.Health(names)
        own = methods_of(health.SERVICE, self._health)
        self.services = (*services, own, *reflection.reflection([*names, own.full_name]))
        self._health_service = own.full_name

    @abstractmethod
    async def open(self) -> None:
        """Listen and serve. Readiness is NOT_SERVING until `set_ready`."""

    @property
    def ready(self) -> bool:
        """Whether readiness is SERVING."""
        return self._health.ready

    async def set_ready(self, ready: bool) -> None:
        """Set the readiness of the whole server (empty name) and of each service by name."""
        self._health.set_ready(ready)

    async def close(self, grace_s: float) -> None:
        """Shut down: send GOAWAY, serve calls sent before it was read, and give calls in flight `grace_s` seconds.

        A unary call is never refused here, because no client by default retries a call that was answered with a status.
        A stream may be endless, so it ends with UNAVAILABLE after `GOAWAY_GRACE_S`.
        """
        self._health.close()
        goaway_grace_s = min(GOAWAY_GRACE_S, grace_s)
        await self.send_goaway(grace_s)
        await asyncio.sleep(goaway_grace_s)
        self._closing.set()
        await self.stop(grace_s - goaway_grace_s)

    @abstractmethod
    async def send_goaway(self, grace_s: float) -> None:
        """Send GOAWAY and close the listener, so that callers connect elsewhere. Open connections are still served."""

    @abstractmethod
    async def stop(self, grace_s: float) -> None:
        """Wait up to `grace_s` seconds for calls in flight, then stop."""

    def admit(self, service: str, left_s: float | None, metadata: Mapping[str, str], *, endless: bool = False) -> Call:
        """Context of a call, with the earlier of the caller's deadline and our limit.

        `left_s` is None if the caller set no deadline; 0.0 is one. Raises `Draining` for a stream during shutdown.
        """
        if endless and self._closing.is_set() and service != self._health_service:
            raise Draining(STOPPING)
        limit_s = math.inf if endless else self._request_timeout_s
        if left_s is not None and left_s < limit_s:
            limit_s = left_s
        return Call(time.monotonic() + limit_s, metadata, on_settled=[])

    async def until_closing(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Messages of a client stream. During shutdown it raises `Draining` in place of the next message.

        A stream may be endless. So every message that was read is answered before the stream ends.
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
                del message  # the next one may never come
                if closing.done():
                    raise Draining(STOPPING)
                reading = asyncio.ensure_future(anext(stream))
        finally:
            closing.cancel()
            if not reading.cancel() and not reading.cancelled():
                reading.exception()  # marks it as retrieved: nobody reads the next message

    async def unparsed(
        self, stream: AsyncIterator[bytes], parse: Callable[[bytes], Message]
    ) -> AsyncIterator[Callable[[], Message]]:
        """Client stream in the form of the method table: functions that parse its messages."""
        async for data in self.until_closing(stream):
            yield partial(parse, data)
            del data  # the next one may never come


def stream_request(parse: Callable[[bytes], Message], data: bytes) -> Message:
    """Request of a server stream. Raises `InvalidRequest`."""
    if len(data) > MAX_STREAM_REQUEST_BYTES:
        raise InvalidRequest(
            f"want at most {MAX_STREAM_REQUEST_BYTES} bytes in the request of a stream, got {len(data)}"
        )
    return parse(data)


def refusal(
    error: Exception, method: str, request_id: str = "", *, shows_cause: bool = False
) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Code, text and trailers of an error. An internal error is logged with its traceback.

    `request_id` is empty for a call that is no inference. An internal error has an id always, to find it in the log.
    """
    if status_of(error)[0] is grpc.StatusCode.INTERNAL:
        request_id = request_id or new_request_id()
        log.error("internal error", exc_info=error, extra={"method": method, "id": clipped(request_id)})
    return *status_of(error, request_id, shows_cause=shows_cause), trailers_of(error)
