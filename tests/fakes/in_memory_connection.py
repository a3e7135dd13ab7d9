"""Two ends of an HTTP/2 connection in memory. The test decides how many bytes are delivered, and when."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.fakes.scripted.settings import Settings
from triptych.http2.connection import Connection
from triptych.http2.framing import Headers, status_headers
from triptych.http2.server import ConnectionManager
from triptych.http2.server_context import Handler
from triptych.server.base import refusal

DECOMPRESSION = ThreadPoolExecutor(1)


class Wire(asyncio.Transport):
    """Transport of one end: buffers the bytes of its protocol until the test delivers them to the peer."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.protocol, self.peer = protocol, None  # type: Connection, Wire | None
        self.waiting = bytearray()
        self.high_bytes = 1 << 16
        self.is_paused = self.is_reading_paused = False
        self._is_closing = self._is_ended = self._is_lost = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high_bytes = high or self.high_bytes

    def write(self, data: Any) -> None:
        assert not self._is_ended
        if self._is_closing:
            return
        self.waiting += data
        if len(self.waiting) > self.high_bytes and not self.is_paused:
            self.is_paused = True
            self.protocol.pause_writing()

    def carry(self, size: int) -> bool:
        """Deliver up to `size` bytes; return whether there were any."""
        peer = self.peer
        if not self.waiting or peer is None or peer.is_reading_paused:
            return False
        view = peer.protocol.get_buffer(-1)
        piece = bytes(self.waiting[: min(size, len(view))])
        del self.waiting[: len(piece)]
        if not peer.is_closing():
            view[: len(piece)] = piece
            peer.protocol.buffer_updated(len(piece))
        if self.is_paused and len(self.waiting) <= self.high_bytes // 4 and not self._is_lost:
            self.is_paused = False
            self.protocol.resume_writing()
        if self._is_closing and not self.waiting:
            self._lose()
        elif self._is_ended and not self.waiting:
            self._end()
        return True

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def is_closing(self) -> bool:
        return self._is_closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._is_ended = True
        if not self.waiting:
            self._end()

    def close(self) -> None:
        self._is_closing = True
        self.is_reading_paused = False
        if not self.waiting:
            self._lose()

    def abort(self) -> None:
        self._is_closing = True
        self.is_reading_paused = False
        self.waiting.clear()
        self._lose()

    def _end(self) -> None:
        """Tell the peer that no more bytes come; it closes in turn."""
        if self.peer is not None and not self.peer.is_closing():
            asyncio.get_running_loop().call_soon(self.peer.close)

    def _lose(self) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        loop = asyncio.get_running_loop()
        loop.call_soon(self.protocol.connection_lost, None)
        if self.peer is not None and not self.peer.is_closing():
            loop.call_soon(self.peer.close)


def wire(one: Connection, other: Connection) -> tuple[Wire, Wire]:
    """Connect two protocols."""
    here, there = Wire(one), Wire(other)
    here.peer, there.peer = there, here
    one.connection_made(here)
    other.connection_made(there)
    return here, there


async def carry_all(*wires: Wire) -> None:
    """Deliver in both directions until nothing is left."""
    still = 0
    while still < 5:
        moved = [each.carry(1 << 16) for each in wires]
        await asyncio.sleep(0)
        still = 0 if any(moved) else still + 1


def end(error: Exception, method: str, request_id: str) -> Headers:
    return status_headers(*refusal(error, method, request_id))


def server_of(handlers: dict[bytes, Handler], **settings: Any) -> ConnectionManager:
    return ConnectionManager(Settings(**settings), handlers, end, DECOMPRESSION)
