"""Connections of HTTP/1.1: those of uvicorn, with limits of number, idle time and pace."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

KEEP_ALIVE_S = 60
HEAD_BYTES = 64 << 10
FREE_CHUNKS = 1024  # of a body
CHUNK_BYTES = 256  # on average in a body of more chunks


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of the connections of one server.

    slow_after_s: between two checks, and so the longest wait for the head of a connection's first request.
    request_timeout_s: of an answer; a minute later the connection is closed.
    min_bytes_per_s: least rate at which a caller reads.
    """

    max_connections: int
    slow_after_s: float
    request_timeout_s: float
    min_bytes_per_s: int


class _Parser(h11.Connection):
    """Counts the bytes of answers, and refuses a body in many small chunks, or with two lengths.

    Each chunk takes 4 us on the loop: 1 MiB of those of one byte took 0.7 s. Of two lengths, a proxy in front may take
    the other one, so that a body becomes a request of the next caller (RFC 9112, 6.3).
    """

    sent_bytes = _chunks = _body_bytes = 0

    def send_with_data_passthrough(self, event: h11.Event) -> list[bytes] | None:
        parts = super().send_with_data_passthrough(event)
        self.sent_bytes += sum(map(len, parts or ()))
        return parts

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._body_bytes = 0
            if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
                raise h11.RemoteProtocolError("want Content-Length or Transfer-Encoding, not both")
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._body_bytes += len(event.data)
            if (self._chunks - FREE_CHUNKS) * CHUNK_BYTES > self._body_bytes:
                raise h11.RemoteProtocolError(f"want chunks of at least {CHUNK_BYTES} bytes")
        return event


class BoundedConnection(H11Protocol):
    """One connection. `limits` and `opened` are those of its server."""

    limits: ConnectionLimits
    opened: dict[BoundedConnection, None]  # oldest first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.conn = self._parser = _Parser(h11.SERVER, HEAD_BYTES)
        self._idle_s = self._busy_s = 0.0
        self._read: tuple[RequestResponseCycle | None, int] = (None, 0)  # bytes of answers that the caller took
        self._check = self.loop.call_later(self.limits.slow_after_s, self._check_progress)
        self.opened[self] = None
        if len(self.opened) > self.limits.max_connections:
            self._evict()

    def connection_lost(self, exc: Exception | None) -> None:
        self._check.cancel()
        self.opened.pop(self, None)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's; without an answer if one has begun, where uvicorn raises an error."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _evict(self) -> None:
        """Close the oldest connection without a request. If each has one, this new one will be answered with 503."""
        oldest = next((each for each in self.opened if each._is_idle and each is not self), None)
        if oldest is not None:
            del self.opened[oldest]
            self.connections.discard(oldest)  # at once, so that it counts no more
            oldest.transport.abort()

    def _check_progress(self) -> None:
        """Every `slow_after_s`: close a connection without a request, or whose answer is not read."""
        period_s, idle = self.limits.slow_after_s, self._is_idle
        self._check = self.loop.call_later(period_s, self._check_progress)
        self._idle_s = self._idle_s + period_s if idle else 0.0
        self._busy_s = 0.0 if idle else self._busy_s + period_s
        is_silent = self.cycle is None or self.conn.their_state is h11.SEND_BODY  # no request, or one without an end
        if (
            self._is_read_slowly()
            or self._busy_s > self.limits.request_timeout_s + KEEP_ALIVE_S
            or self.transport.is_closing()  # since the last check: its caller does not read the rest
        ):
            self.transport.abort()
        elif idle and (self._idle_s > KEEP_ALIVE_S or is_silent):
            self.transport.close()

    def _is_read_slowly(self) -> bool:
        """Whether the caller took less of an answer since the last check than the least rate."""
        waiting = self.transport.get_write_buffer_size()
        cycle, before = self._read
        self._read = (self.cycle if waiting else None, self._parser.sent_bytes - waiting)
        wanted = self.limits.min_bytes_per_s * self.limits.slow_after_s
        return waiting > 0 and cycle is self.cycle and self._read[1] - before < wanted


def connections(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """Class of the connections of a server with these limits."""
    members = {"limits": limits, "opened": dict[BoundedConnection, None]()}
    return type("Connection", (BoundedConnection,), members)
