"""What the servers share: which calls are taken, health and reflection beside the services, the end of streams."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

import grpc
from google.protobuf.message import DecodeError, Message

from triptych.errors import Draining, InvalidRequest
from triptych.http2.framing import metadata_fault
from triptych.protocol.call import Call
from triptych.protocol.methods import Service, methods_of
from triptych.protocol.status import status_of, trailers_of
from triptych.runtime.settings import StageSettings
from triptych.server import health, reflection

log = logging.getLogger("triptych.server")

# A call that was sent before its caller read the GOAWAY is here by then. Of 7,900 to 9,000 calls of a client 138 to 209
# were lost in four restarts while the port stayed open and calls were refused, and 0 of 9,100 to 11,700 without
# (grpc-go, grpc-java, grpc-js, grpcio, 8 callers, 2026-11-28).
SETTLE_S = 0.5

STOPPING = "this replica is stopping; send the request again"


class GrpcServer(ABC):
    """Serves services beside grpc.health.v1 and reflection on one port. Raises `OSError` when it cannot."""

    def __init__(self, services: Sequence[Service], settings: StageSettings) -> None:
        self.settings = settings
        self.port = settings.port  # where it listens
        self._closing = asyncio.Event()
        names = [service.full_name for service in services]
        self._health = health.Health(names)
        own = methods_of(health.SERVICE, self._health)
        self.services = (*services, own, *reflection.reflection([*names, own.full_name]))
        self._unstoppable = own.full_name

    @abstractmethod
    async def open(self) -> None:
        """Serves, at first as NOT_SERVING."""

    @property
    def ready(self) -> bool:
        """What the readiness voice says."""
        return self._health.ready

    async def set_ready(self, ready: bool) -> None:
        """The readiness voice, for the whole server (empty name) and for each service by name."""
        self._health.set_ready(ready)

    async def close(self, grace_s: float) -> None:
        """Sends callers away, serves what they sent before they heard it, and gives calls in flight `grace_s` seconds.

        A unary call is never refused here: no client by its defaults sends a call again that was answered with a
        status. A stream may have no end; it ends with UNAVAILABLE after `SETTLE_S`.
        """
        self._health.close()
        settle_s = min(SETTLE_S, grace_s)
        await self.send_away(grace_s)
        await asyncio.sleep(settle_s)
        self._closing.set()
        await self.end(grace_s - settle_s)

    @abstractmethod
    async def send_away(self, grace_s: float) -> None:
        """Sends GOAWAY and closes the listener, so that callers connect elsewhere; serves open connections on."""

    @abstractmethod
    async def end(self, grace_s: float) -> None:
        """Lets calls in flight end for `grace_s` seconds and then stops."""

    def check_metadata(self, entries: Collection[tuple[str | bytes, str | bytes]]) -> None:
        """Raises `Overloaded` when a call's metadata is over the limit."""
        if fault := metadata_fault(entries, self.settings.max_metadata_bytes):
            raise fault

    def admit(self, service: str, left_s: float | None, metadata: Mapping[str, str], *, endless: bool = False) -> Call:
        """The call, with its own deadline or ours; raises `Draining` for a stream when this process is stopping.

        `left_s` is None when the caller set no deadline; 0.0 is a deadline.
        """
        if endless and self._closing.is_set() and service != self._unstoppable:
            raise Draining(STOPPING)
        limit_s = float("inf") if endless else self.settings.request_timeout_s
        call = Call.within(limit_s if left_s is None else min(left_s, limit_s), metadata)
        call.unwritten = []
        return call

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
            if not reading.cancel() and not reading.cancelled():
                reading.exception()  # nobody reads on: what was wrong with the next message is nobody's concern

    async def parsed(
        self, stream: AsyncIterator[bytes], parse: Callable[[bytes], Message]
    ) -> AsyncIterator[Message | InvalidRequest]:
        """A caller's stream as the method table wants it, until this process is stopping."""
        async for data in self.until_closing(stream):
            try:
                yield parse(data)
            except InvalidRequest as error:
                yield error


def parser(message: type[Message]) -> Callable[[bytes], Message]:
    """Turns bytes into a message; raises `InvalidRequest`."""

    def parse(data: bytes) -> Message:
        try:
            return message.FromString(data)
        except DecodeError as error:
            name = message.DESCRIPTOR.full_name
            raise InvalidRequest(f"want an encoded {name}, got {len(data)} bytes that are none") from error

    return parse


def refusal(error: Exception, method: str) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Code, text and trailers of the table; what is our fault is logged whole."""
    code, text = status_of(error)
    if code is grpc.StatusCode.INTERNAL:
        log.error("internal error", exc_info=error, extra={"method": method})
    return code, text, trailers_of(error)
