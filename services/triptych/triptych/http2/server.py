"""Server side of HTTP/2: one connection for each caller, and the manager of all connections."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from typing import Any
from urllib.parse import quote

from ngh2 import DataReceived, Event, PingAcknowledged, RequestReceived, Role, Setting, StreamClosed, TrailersReceived

from triptych.http2.backlog import Backlog
from triptych.http2.connection import READ_BYTES
from triptych.http2.framing import RESPONSE_HEADERS, Headers
from triptych.http2.malformed import FAULT, TABLE_BYTES, block_of, with_answers
from triptych.http2.oversized import STRING_BYTES, HeaderFilter
from triptych.http2.server_context import Handler, ServerContext
from triptych.http2.server_stream import ServerStream, StreamConnection
from triptych.protocol.peer import certificate_names
from triptych.runtime.descriptors import connections_within
from triptych.runtime.settings import METADATA_FACTOR, StageSettings

log = logging.getLogger(__name__)

CHECK_PERIOD_S = 0.1  # between two checks for calls that are late or slow
# A PING follows the first GOAWAY. Its answer comes behind everything that the caller sent before it read the GOAWAY.
# A caller that does not answer gets the final GOAWAY after this time.
GOAWAY_ACK_S = 10.0
DRAIN_PING = b"draining"
JITTER = 0.1  # share of the connection age, so that callers do not reconnect all at once
TLS_CONNECTION_BYTES = (
    64 << 10
)  # memory of a connection: 500 with certificates of callers took 62 KiB each (2026-11-30)
HANDSHAKE_S = 10.0  # limit for TLS and the first HTTP/2 frames of a new connection


class ConnectionManager(ServerContext):
    """All connections of one server, and the state that they share."""

    def __init__(
        self,
        settings: StageSettings,
        handlers: dict[bytes, Handler],
        refuse: Callable[[Exception, str, str], Headers],
        decompression: Executor,
    ) -> None:
        super().__init__(settings, handlers, refuse, decompression)
        self.buffer = bytearray(READ_BYTES)
        self.backlog = Backlog(self.loop)
        self.connections: dict[ServerConnection, None] = {}  # oldest first
        # Connections within a header block, oldest first. Each may keep `max_header_bytes` of fields, which take twice
        # as much memory if they are small.
        self._within_block: dict[ServerConnection, None] = {}
        self.max_header_bytes = METADATA_FACTOR * max(settings.max_metadata_bytes, STRING_BYTES)  # one such string
        self._max_within_block = max(1, settings.max_bytes_in_flight // (2 * self.max_header_bytes))
        self.malformed_block = block_of((*RESPONSE_HEADERS, *refuse(FAULT, "", "")))
        self.max_connections = connections_within(settings.max_connections)
        if settings.tls_cert:
            self.max_connections = min(self.max_connections, settings.max_bytes_in_flight // TLS_CONNECTION_BYTES)
        elif self.max_connections < settings.max_connections:
            fields = {"max_connections": self.max_connections, "wanted": settings.max_connections}
            log.warning("few file descriptors, fewer connections", extra=fields)
        self._check_handle: asyncio.TimerHandle | None = None
        self._stalled_s = 0.0
        self.is_draining = False

    def connect(self) -> ServerConnection:
        """A protocol for a new transport."""
        return ServerConnection(self)

    def admit(self, connection: ServerConnection) -> None:
        """Add a new connection. Over the limit, close the oldest one without a call, or else the new one."""
        self.connections[connection] = None
        if len(self.connections) > self.max_connections:
            evicted = next((each for each in self.connections if not each.streams), connection)
            del self.connections[evicted]  # at once, so that the next admission chooses another
            evicted.abort()

    def begin_block(self, connection: ServerConnection) -> None:
        """Note that a header block of a connection is incomplete. Over the limit, close the one that lasts longest."""
        self._within_block[connection] = None
        if len(self._within_block) > self._max_within_block:
            oldest = next(iter(self._within_block))
            del self._within_block[oldest]
            oldest.abort()

    def end_block(self, connection: ServerConnection) -> None:
        """Note that the header block of a connection is complete, or that the connection is closed."""
        self._within_block.pop(connection, None)

    def drain(self) -> None:
        """Send GOAWAY to all callers. A connection still in its handshake gets it at its first frames."""
        self.is_draining = True
        for connection in tuple(self.connections):
            connection.drain()

    @property
    def streams(self) -> list[ServerStream]:
        """All calls in flight."""
        return [stream for connection in self.connections for stream in connection.streams.values()]

    def schedule_check(self) -> None:
        """Schedule the next check of the calls in flight."""
        if self._check_handle is None:
            self._check_handle = self.loop.call_later(CHECK_PERIOD_S, self._check)

    def _check(self) -> None:
        assert self._check_handle is not None
        # A check that is late stands for a loop that did not read: that time is no caller's fault.
        self._stalled_s += max(0.0, self.loop.time() - self._check_handle.when())
        self._check_handle, now_s = None, time.monotonic()
        busy = [connection for connection in self.connections if connection.streams or connection.is_full]
        for connection in busy:
            connection.check_progress(now_s, now_s - self._stalled_s)
        if busy:
            self.schedule_check()


class ServerConnection(StreamConnection):
    """One caller's connection."""

    def __init__(self, manager: ConnectionManager) -> None:
        settings = manager.settings
        super().__init__(
            Role.SERVER,
            manager.buffer,
            {
                Setting.MAX_CONCURRENT_STREAMS: settings.max_concurrent_streams,
                Setting.MAX_HEADER_LIST_SIZE: settings.max_metadata_bytes,
            },
            manager.max_header_bytes,
        )
        self.context, self._manager = manager, manager
        self._filter = HeaderFilter(settings.max_metadata_bytes)
        self._removed, self._begun = self._filter.removed_bytes, self._filter.begun
        self.streams, self.unsent = {}, set()
        self._peer, self._certificate = "", dict[str, Any]()
        self._timer: asyncio.TimerHandle | None = None
        self._is_established = self._is_draining = self._is_within_block = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._peer = _peer(transport.get_extra_info("peername"))
        self._certificate = transport.get_extra_info("peercert") or {}
        self._timer = self._manager.loop.call_later(HANDSHAKE_S, self.abort)
        self._manager.admit(self)
        if self._manager.is_draining:
            self.drain()

    def ask_peer(self) -> str:
        return self._peer

    def ask_identity(self) -> Collection[str]:
        return certificate_names(self._certificate)

    def receive(self, data: memoryview) -> None:
        if len(self._begun) > 1:  # the last one may not be whole yet; the others were reset or ignored
            self._begun.intersection_update((max(self._begun),))
        self._removed.clear()
        self.protocol.receive_data(self._filter.feed(data))
        if self._filter.is_within_block != self._is_within_block:
            self._is_within_block = not self._is_within_block
            (self._manager.begin_block if self._is_within_block else self._manager.end_block)(self)

    def closed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._manager.backlog.forget(self)
        for stream in tuple(self.streams.values()):
            stream.cancel()

    def lost(self) -> None:
        self._manager.connections.pop(self, None)
        self._manager.end_block(self)

    # Backpressure: a caller that does not read its answers is not read either.
    def pause_writing(self) -> None:
        super().pause_writing()
        self.stop_reading()
        self._manager.schedule_check()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.go_on_reading()

    def stop_reading(self) -> None:
        """Read nothing more from the caller for now."""
        if self.transport is not None and not self.is_closed and not self.transport.is_closing():
            self.transport.pause_reading()

    def go_on_reading(self) -> None:
        """Read from the caller again, unless it does not read its answers, or its calls have not started."""
        transport = self.transport
        if transport is None or self.is_full or self in self._manager.backlog or transport.is_closing():
            return
        transport.resume_reading()

    def handle(self, events: list[Event]) -> None:
        if events and not self._is_established:
            self._establish()
        ready: list[ServerStream] = []
        for event in events:
            if type(event) is DataReceived:
                stream = self.streams.get(event.stream_id)
                if stream is None:
                    self.acknowledge(event.stream_id, len(event.data))
                elif stream.receive(event.data, event.end_stream):
                    ready.append(stream)
            elif type(event) is RequestReceived:
                stream_id = event.stream_id
                self._begun.discard(stream_id)
                stream = self.streams[stream_id] = ServerStream(self, stream_id)
                if stream_id in self._removed:
                    stream.abort_oversized(event.headers, self._removed[stream_id], event.end_stream)
                elif stream.open(event.headers, event.end_stream):
                    ready.append(stream)
            elif type(event) is StreamClosed:
                stream = self.streams.get(event.stream_id)
                if stream is not None:
                    stream.cancel()
            elif type(event) is TrailersReceived:
                stream = self.streams.get(event.stream_id)
                if stream is not None and event.stream_id in self._removed:
                    stream.abort_oversized(event.headers, self._removed[event.stream_id], True)
                elif stream is not None and stream.receive(b"", True):
                    ready.append(stream)
            elif type(event) is PingAcknowledged and event.opaque_data == DRAIN_PING:
                self.go_away()
        if ready:
            self._manager.backlog.start(self, ready)

    def outgoing(self, data: bytes) -> bytes:
        """Put an answer before the reset of each call that libnghttp2 refused as malformed."""
        if not self._begun or not self.is_aligned:
            return data
        if self.protocol.remote_settings.get(Setting.HEADER_TABLE_SIZE, TABLE_BYTES) < TABLE_BYTES:
            return data
        return with_answers(data, self._begun, self._manager.malformed_block)

    def flush(self) -> None:
        super().flush()
        if self.unsent:
            for stream in tuple(self.unsent):
                stream.check_sent()
            super().flush()  # resets of streams whose callers still send

    def check_progress(self, now_s: float, pace_s: float) -> None:
        """End calls that are late or slow, and the connection if its caller reads nothing.

        `pace_s` is the time for the pace of callers: it stands still while the loop does.
        """
        for stream in tuple(self.streams.values()):
            stream.check_progress(now_s, pace_s)
        if self.is_full and now_s - self.full_since_s > self._manager.settings.request_timeout_s:
            self.abort()

    def drain(self) -> None:
        """Send the first GOAWAY. Calls that the caller sends before it reads the GOAWAY are still answered."""
        self._is_draining = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._manager.loop.call_later(GOAWAY_ACK_S, self.go_away)
        self.submit(self.protocol.send_shutdown_notice)
        self.submit(self.protocol.ping, DRAIN_PING)
        self.flush()

    def go_away(self) -> None:
        """Send the final GOAWAY: accept no more calls, and close after the last one."""
        if self._timer is not None:
            self._timer.cancel()
        self.submit(self.protocol.send_goaway)
        self.flush()

    def _establish(self) -> None:
        self._is_established = True
        if self._is_draining:
            return
        assert self._timer is not None
        self._timer.cancel()
        age_s = self._manager.settings.connection_age_s
        if age_s:
            age_s *= random.uniform(1 - JITTER, 1 + JITTER)
            self._timer = self._manager.loop.call_later(age_s, self.drain)


def _peer(address: Any) -> str:
    """Address in gRPC's form: `ipv4:10.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    if not isinstance(address, tuple):
        return ""
    host, port = address[:2]
    return f"ipv6:{quote(f'[{host}]')}:{port}" if ":" in host else f"ipv4:{host}:{port}"
