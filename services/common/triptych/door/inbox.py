"""What is on its way in behind Envoy: messages put together and unpacked, within a room for all, at a pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from triptych.errors import DeadlineExceeded, InvalidRequest
from triptych.http2.framing import PREFIX, Limits
from triptych.room import Room
from triptych.settings import StageSettings


@dataclass(frozen=True)
class Arriving:
    """What all calls share for what is on its way in."""

    room: Room
    unpacking: Executor


class Pace:
    """Whether a caller goes on sending the message that it has begun."""

    def __init__(self, settings: StageSettings) -> None:
        self._settings = settings
        self._message = -1
        self._since_s = self._window_s = 0.0
        self._window_bytes = 0

    def fault(self, now_s: float, message: int, arrived_bytes: int) -> DeadlineExceeded | None:
        """What is wrong; `message` is the number of the one that is incomplete, `arrived_bytes` are those of all."""
        settings = self._settings
        if message != self._message:
            self._message, self._since_s = message, now_s
            self._window_s, self._window_bytes = now_s, arrived_bytes
        if now_s - self._since_s > settings.request_timeout_s:
            return DeadlineExceeded(f"the message did not arrive within {settings.request_timeout_s:g} s")
        if now_s - self._window_s >= settings.slow_after_s:
            came_bytes = arrived_bytes - self._window_bytes
            wanted_bytes = settings.min_bytes_per_s * settings.slow_after_s
            if came_bytes < wanted_bytes:
                return DeadlineExceeded(
                    f"want {wanted_bytes:.0f} bytes of the message in {settings.slow_after_s:g} s, got {came_bytes}"
                )
            self._window_s, self._window_bytes = now_s, arrived_bytes
        return None


class Inbox:
    """The messages of one call out of the pieces that they arrive in, their bytes within the room for all calls."""

    def __init__(self, limits: Limits, room: Room, unpacking: Executor) -> None:
        self._limits, self._room, self._unpacking = limits, room, unpacking
        self._taken_bytes = 0
        self._held = bytearray()
        self.count = 0  # of messages that arrived whole

    @property
    def held_bytes(self) -> int:
        """Of a message that has not arrived whole."""
        return len(self._held)

    async def messages(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """Raises `Overloaded` when there is no room for what arrives."""
        held, limits = self._held, self._limits
        try:
            async for chunk in chunks:
                self._take(len(chunk))
                held += chunk
                while len(held) >= PREFIX and len(held) >= (end := PREFIX + limits.length(held)):
                    with memoryview(held) as view:
                        flag, data = view[0], bytes(view[PREFIX:end])
                    message = await self.plain(flag, data)
                    del held[:end]
                    self._give(end)
                    self.count += 1
                    yield message
            if held:
                raise InvalidRequest(f"the stream ended within a message, after {len(held)} bytes of it")
        finally:
            self._give(len(held))
            held.clear()

    async def plain(self, flag: int, data: bytes) -> bytes:
        """The message itself. One that is large when unpacked is unpacked on a thread, and has room or is refused."""
        if not flag:
            return data
        pieces, unpacked, taken = self._limits.pieces(data), bytearray(), 0
        loop = asyncio.get_running_loop()
        try:
            while piece := await loop.run_in_executor(self._unpacking, _next, pieces) if unpacked else _next(pieces):
                self._take(len(piece))
                taken += len(piece)
                unpacked += piece
            return bytes(unpacked)
        finally:
            self._give(taken)

    def _take(self, size_bytes: int) -> None:
        self._room.take(size_bytes, self._taken_bytes)
        self._taken_bytes += size_bytes

    def _give(self, size_bytes: int) -> None:
        self._room.give(size_bytes)
        self._taken_bytes -= size_bytes


def _next(pieces: Iterator[bytes]) -> bytes:
    """Empty at the end."""
    return next((piece for piece in pieces if piece), b"")
