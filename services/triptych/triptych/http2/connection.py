"""One HTTP/2 connection: libnghttp2's protocol state on a transport of asyncio."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, cast

import ngh2
from ngh2 import Configuration, Event, Role, Setting

from triptych.http2.oversized import FRAME_BYTES
from triptych.runtime.settings import METADATA_ENTRY_BYTES, MIB

READ_BYTES = 1 << 16  # of one read: bounds the time that a flood of frames keeps the loop
WRITE_BYTES = 1 << 18  # of one write, and the high-water mark of the transport

# Flow-control windows of a stream and of the connection: they bound what waits here unread.
STREAM_WINDOW_BYTES = 4 * MIB
CONNECTION_WINDOW_BYTES = 16 * MIB

# Resets are cheap here, and closing a connection ends its other calls: the bound stops only floods.
RESETS = (1_000_000, 100_000)  # token bucket: burst, tokens per second

CLOSE_S = 10.0  # limit for the last bytes of a closing connection, and for its peer to close it too


class Connection(asyncio.BufferedProtocol):
    """Reads into a buffer that all connections of a loop share, and writes the frames of libnghttp2."""

    def __init__(self, role: Role, buffer: bytearray, settings: dict[Setting, int], max_headers_bytes: int) -> None:
        self._view = memoryview(buffer)
        self.protocol = ngh2.Connection(
            role,
            Configuration(
                auto_window_update=False,
                stream_reset_rate_limit=RESETS,
                glitch_rate_limit=RESETS,
                max_inbound_header_list_size=max_headers_bytes,
                max_inbound_header_count=max_headers_bytes // METADATA_ENTRY_BYTES,
                max_continuations=max_headers_bytes // FRAME_BYTES + 1,
            ),
        )
        self._settings = {**settings, Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES}
        self.transport: asyncio.Transport | None = None
        self.is_closed = False  # nothing more is sent or handled
        self.is_lost = self._has_ended = False
        self._closing: asyncio.TimerHandle | None = None
        self.is_full = False  # the transport is above its high-water mark
        self.full_since_s = 0.0
        self.is_aligned = True  # what was written ends with a whole frame

    @abstractmethod
    def handle(self, events: list[Event]) -> None:
        """Handle the events of one read or of one write."""

    @abstractmethod
    def closed(self) -> None:
        """End all calls of a connection that is closed."""

    @abstractmethod
    def lost(self) -> None:
        """Forget a connection that its peer has closed too."""

    def receive(self, data: memoryview) -> None:
        """Pass received bytes to libnghttp2. Raises its errors."""
        self.protocol.receive_data(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports are no subclass
        self.transport.set_write_buffer_limits(high=WRITE_BYTES)
        self.protocol.initiate_connection(self._settings)
        self.protocol.set_local_window_size(CONNECTION_WINDOW_BYTES)
        self.flush()

    def connection_lost(self, _error: Exception | None) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._end()
        self.is_lost = True
        self.lost()

    def get_buffer(self, _size: int) -> memoryview:
        return self._view  # asyncio's TLS reads into slices of it, which must not be copies

    def buffer_updated(self, size: int) -> None:
        if self.is_closed:  # what the peer sent before it read the end
            return
        try:
            self.receive(self._view[:size])
        except (ngh2.NGH2Error, MemoryError):
            self.close()  # libnghttp2 gave up the connection: nothing more can be sent on it
            return
        self.handle(self.protocol.events())
        if self.protocol.want_write or not self.protocol.want_read:
            self.flush()

    def pause_writing(self) -> None:
        self.is_full, self.full_since_s = True, time.monotonic()

    def resume_writing(self) -> None:
        self.is_full = False
        self.flush()

    def flush(self) -> None:
        """Write as much as the transport takes and the peer's windows allow."""
        if self.transport is None or self.is_closed:
            return
        try:
            while not self.is_full and (data := self.protocol.data_to_send(WRITE_BYTES)):
                self.transport.write(self.outgoing(data))
                self.is_aligned = len(data) < WRITE_BYTES
                if self.is_aligned:
                    break
            over = not self.protocol.want_read and not self.protocol.want_write
        except ngh2.NGH2Error:
            over = True
        if over:
            self.close()

    def outgoing(self, data: bytes) -> bytes:
        """Frames of libnghttp2 as they are to be written."""
        return data

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Give consumed bytes back to the flow-control windows."""
        if not size or self.is_closed:
            return
        try:
            self.protocol.acknowledge_received_data(size, stream_id)
        except ngh2.NGH2Error:
            return  # the connection or the stream has just ended

    def reset(self, stream_id: int, code: int) -> None:
        """Reset a stream at once."""
        self.submit(self.protocol.reset_stream, stream_id, code)
        self.flush()

    def submit(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Result of a method of `protocol`; None if the connection or the stream has just ended."""
        if self.is_closed:
            return None
        try:
            return method(*arguments, **named)
        except ngh2.NGH2Error:
            return None

    def close(self) -> None:
        """Close the connection once its last bytes are written and its peer has closed it, or after `CLOSE_S`.

        Were it closed at once, bytes that the peer has just sent would make the system reset the connection, and the
        peer would lose our last frames. TLS has its own end for this.
        """
        transport = self.transport
        if transport is None or self.is_closed or transport.is_closing():
            return
        self._closing = asyncio.get_running_loop().call_later(CLOSE_S, self.abort)
        if transport.can_write_eof():
            transport.write_eof()
            transport.resume_reading()
        else:
            transport.close()
        self.is_closed = True
        asyncio.get_running_loop().call_soon(self._end)  # behind the last events

    def abort(self) -> None:
        """Close the connection at once, with unsent bytes lost."""
        if self.transport is not None and not self.is_lost:
            self.transport.abort()

    def _end(self) -> None:
        if not self._has_ended:
            self.is_closed = self._has_ended = True
            self.closed()
