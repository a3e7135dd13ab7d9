"""One HTTP/2 connection: libnghttp2's state between a transport of asyncio and whoever has the calls."""

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

READ_BYTES = 1 << 16  # of one read: what a flood of frames can make before others have their turn
WRITE_BYTES = 1 << 18  # at once, and waiting in the transport before it says that it is full

# What a peer may have in flight: for one stream, and for the connection, which bounds what waits here unread.
STREAM_WINDOW_BYTES = 4 * MIB
CONNECTION_WINDOW_BYTES = 16 * MIB

# Resets are cheap here and closing a connection harms its patient calls; the bound is only on what is absurd.
RESETS = (1_000_000, 100_000)  # burst, and per second

CLOSE_S = 10.0  # for the last bytes of a connection that is closed, until what its peer does not read is dropped


class Connection(asyncio.BufferedProtocol):
    """Reads into a buffer that all connections of a loop share, and writes what libnghttp2 has to say."""

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
        self.is_closed = False
        self._closing: asyncio.TimerHandle | None = None
        self.is_full = False  # the transport takes no more now
        self.full_since_s = 0.0

    @abstractmethod
    def handle(self, events: list[Event]) -> None:
        """Acts on what came in one read, or on what was ended by what went out."""

    @abstractmethod
    def lost(self) -> None:
        """The connection is gone, with all calls on it."""

    def receive(self, data: memoryview) -> None:
        """Gives libnghttp2 what came. Raises what it raises."""
        self.protocol.receive_data(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        self.transport.set_write_buffer_limits(high=WRITE_BYTES)
        self.protocol.initiate_connection(self._settings)
        self.protocol.set_local_window_size(CONNECTION_WINDOW_BYTES)
        self.flush()

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_closed = True
        if self._closing is not None:
            self._closing.cancel()
        self.lost()

    def get_buffer(self, _size: int) -> memoryview:
        return self._view  # asyncio's TLS reads into slices of it, which have to be no copies

    def buffer_updated(self, size: int) -> None:
        if self.is_closed:
            return
        try:
            self.receive(self._view[:size])
        except (ngh2.NGH2Error, MemoryError):
            self.close()  # libnghttp2 gave the connection up: nothing more can be said on it
            return
        self.handle(self.protocol.events())
        self.flush()

    def pause_writing(self) -> None:
        self.is_full, self.full_since_s = True, time.monotonic()

    def resume_writing(self) -> None:
        self.is_full = False
        self.flush()

    def flush(self) -> None:
        """Writes as much as the transport takes and the peer's windows allow."""
        if self.transport is None or self.is_closed:
            return
        try:
            while not self.is_full and (data := self.protocol.data_to_send(WRITE_BYTES)):
                self.transport.write(data)
                if len(data) < WRITE_BYTES:
                    break
            over = not self.protocol.want_read and not self.protocol.want_write
        except ngh2.NGH2Error:
            over = True
        if over:
            self.close()

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Opens the windows again for bytes that have their place."""
        if size:
            self.say(self.protocol.acknowledge_received_data, size, stream_id)

    def reset(self, stream_id: int, code: int) -> None:
        """Ends a stream at once."""
        self.say(self.protocol.reset_stream, stream_id, code)
        self.flush()

    def say(self, word: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """The result of a method of `protocol`; None when the connection or the stream has just ended."""
        if self.is_closed:
            return None
        try:
            return word(*arguments, **named)
        except ngh2.NGH2Error:
            return None

    def close(self) -> None:
        """Closes the transport once all is written that it has taken, or after `CLOSE_S`."""
        if self.transport is None or self.transport.is_closing():
            return
        self._closing = asyncio.get_running_loop().call_later(CLOSE_S, self.abort)
        self.transport.close()

    def abort(self) -> None:
        """Drops the connection and what has not been written."""
        if self.transport is not None and not self.is_closed:
            self.transport.abort()
