"""The server's side: connections of callers, and what all of them share."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, cast
from urllib.parse import quote

from ngh2 import DataReceived, Event, PingAcknowledged, RequestReceived, Role, Setting, StreamClosed, TrailersReceived

from triptych.http2.connection import READ_BYTES, Connection
from triptych.http2.exchange import Exchange, Handler
from triptych.http2.framing import Headers
from triptych.http2.oversized import STRING_BYTES, HeaderFilter
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.settings import METADATA_FACTOR, StageSettings

LOOK_S = 0.1  # between two looks at calls that may be late or slow
# After the notice that a connection will end comes a PING: its answer is behind all that the caller sent before it had
# heard of it, however late the loop is. A caller that does not answer has this long.
NOTICE_S = 10.0
LEAVING = b"leaving."
JITTER = 0.1  # of the age of a connection, so that callers do not come back all at once
BEGIN_S = 10.0  # until a new connection must have spoken HTTP/2


class Server:
    """The state that the connections of one server share: settings, handlers, and the room for bytes on their way."""

    def __init__(
        self,
        settings: StageSettings,
        handlers: dict[bytes, Handler],
        refuse: Callable[[Exception, str], Headers],
        unpacking: Executor,
    ) -> None:
        """`refuse` makes the end of a call that failed out of the error and the method's name."""
        self.settings, self.handlers, self.refuse, self.unpacking = settings, handlers, refuse, unpacking
        self.loop = asyncio.get_running_loop()
        self.buffer = bytearray(READ_BYTES)
        self.arriving, self.leaving = (
            InFlightBytes(settings.max_bytes_in_flight),
            InFlightBytes(settings.max_bytes_in_flight),
        )
        self.connections: dict[ServerConnection, None] = {}  # in the order in which they came
        self._look_handle: asyncio.TimerHandle | None = None
        self.is_leaving = False

    def connect(self) -> ServerConnection:
        """A protocol for a new transport."""
        return ServerConnection(self)

    def admit(self, connection: ServerConnection) -> None:
        """Counts a new connection in. One over the limit costs the oldest without a call its place, or its own."""
        self.connections[connection] = None
        if len(self.connections) > self.settings.max_connections:
            leaving = next((each for each in self.connections if not each.exchanges), connection)
            del self.connections[leaving]  # at once, so that the next that comes finds another
            leaving.abort()

    def leave(self) -> None:
        """Tells all callers to connect elsewhere, also those whose handshake is not over."""
        self.is_leaving = True
        for connection in tuple(self.connections):
            connection.leave()

    @property
    def exchanges(self) -> list[Exchange]:
        """All calls in flight."""
        return [exchange for connection in self.connections for exchange in connection.exchanges.values()]

    def look_soon(self) -> None:
        """Makes sure that what is in flight is looked at."""
        if self._look_handle is None:
            self._look_handle = self.loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._look_handle, now_s = None, time.monotonic()
        busy = [connection for connection in self.connections if connection.exchanges or connection.is_full]
        for connection in busy:
            connection.look(now_s)
        if busy:
            self.look_soon()


class ServerConnection(Connection):
    """One caller's connection."""

    def __init__(self, server: Server) -> None:
        settings = server.settings
        super().__init__(
            Role.SERVER,
            server.buffer,
            {
                Setting.MAX_CONCURRENT_STREAMS: settings.max_concurrent_streams,
                Setting.MAX_HEADER_LIST_SIZE: settings.max_metadata_bytes,
            },
            METADATA_FACTOR * max(settings.max_metadata_bytes, STRING_BYTES),  # the filter lets one such string pass
        )
        self.server = server
        self._filter = HeaderFilter(settings.max_metadata_bytes)
        self._left_out = self._filter.left_out
        self.exchanges: dict[int, Exchange] = {}
        self.unsent: set[Exchange] = set()  # those with an answer that waits for the transport or for windows
        self.peer = ""  # as gRPC names it
        self.certificate: dict[str, Any] = {}  # the caller's, as `ssl` has it; empty without one
        self._timer: asyncio.TimerHandle | None = None
        self._has_begun = self._is_leaving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peer = _peer(transport.get_extra_info("peername"))
        self.certificate = transport.get_extra_info("peercert") or {}
        self._timer = self.server.loop.call_later(BEGIN_S, self.abort)
        self.server.admit(self)
        if self.server.is_leaving:
            self.leave()

    def receive(self, data: memoryview) -> None:
        self._left_out.clear()
        self.protocol.receive_data(self._filter.feed(data))

    def lost(self) -> None:
        self.server.connections.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        for exchange in tuple(self.exchanges.values()):
            exchange.leave()

    # A caller that does not read is not read: what it asks for would have no place to go.
    def pause_writing(self) -> None:
        super().pause_writing()
        assert self.transport is not None
        self.transport.pause_reading()
        self.server.look_soon()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.transport is not None and not self.is_full and not self.transport.is_closing():
            self.transport.resume_reading()

    def handle(self, events: list[Event]) -> None:
        if events and not self._has_begun:
            self._begin()
        begun: list[Exchange] = []
        for event in events:
            kind = type(event)
            if kind is DataReceived:
                data = cast("DataReceived", event)
                exchange = self.exchanges.get(data.stream_id)
                if exchange is None:
                    self.acknowledge(data.stream_id, len(data.data))
                elif exchange.receive(data.data, data.end_stream):
                    begun.append(exchange)
            elif kind is RequestReceived:
                request = cast("RequestReceived", event)
                exchange = self.exchanges[request.stream_id] = Exchange(self, request.stream_id, request.headers)
                if request.stream_id in self._left_out:
                    exchange.end_oversized(request.headers, self._left_out[request.stream_id], request.end_stream)
                elif exchange.open(request.end_stream):
                    begun.append(exchange)
            elif kind is StreamClosed:
                exchange = self.exchanges.get(cast("StreamClosed", event).stream_id)
                if exchange is not None:
                    exchange.leave()
            elif kind is TrailersReceived:
                trailers = cast("TrailersReceived", event)
                exchange = self.exchanges.get(trailers.stream_id)
                if exchange is not None and trailers.stream_id in self._left_out:
                    exchange.end_oversized(trailers.headers, self._left_out[trailers.stream_id], True)
                elif exchange is not None and exchange.receive(b"", True):
                    begun.append(exchange)
            elif kind is PingAcknowledged and cast("PingAcknowledged", event).opaque_data == LEAVING:
                self.leave_for_good()
        for exchange in begun:
            if exchange.stream_id in self.exchanges:  # what is reset in the same read never begins
                exchange.begin()

    def flush(self) -> None:
        super().flush()
        if self.unsent:
            for exchange in tuple(self.unsent):
                exchange.check_sent()
            super().flush()  # what tells callers to stop

    def look(self, now_s: float) -> None:
        """Ends what is late or slow."""
        for exchange in tuple(self.exchanges.values()):
            exchange.look(now_s)
        if self.is_full and now_s - self.full_since_s > self.server.settings.request_timeout_s:
            self.abort()

    def leave(self) -> None:
        """Tells the caller to connect elsewhere; what it sends before it has heard that is answered."""
        self._is_leaving = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.server.loop.call_later(NOTICE_S, self.leave_for_good)
        self.say(self.protocol.send_shutdown_notice)
        self.say(self.protocol.ping, LEAVING)
        self.flush()

    def leave_for_good(self) -> None:
        """Takes no call any more, and closes behind the last one."""
        if self._timer is not None:
            self._timer.cancel()
        self.say(self.protocol.send_goaway)
        self.flush()

    def _begin(self) -> None:
        self._has_begun = True
        if self._is_leaving:
            return
        assert self._timer is not None
        self._timer.cancel()
        age_s = self.server.settings.connection_age_s
        if age_s:
            age_s *= random.uniform(1 - JITTER, 1 + JITTER)
            self._timer = self.server.loop.call_later(age_s, self.leave)


def _peer(address: Any) -> str:
    """`ipv4:10.0.0.1:5000` or `ipv6:%5B::1%5D:5000`, as gRPC has it."""
    if not isinstance(address, tuple):
        return ""
    host, port = address[:2]
    return f"ipv6:{quote(f'[{host}]')}:{port}" if ":" in host else f"ipv4:{host}:{port}"
