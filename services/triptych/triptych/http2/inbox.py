"""The messages of a caller: put together and unpacked, within a room that all calls share, at a pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor

from triptych.errors import DeadlineExceeded, InvalidRequest
from triptych.http2.framing import PREFIX, Limits
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.settings import StageSettings

MESSAGE_BYTES = 96  # of memory for a message that waits, beside its own


class Pace:
    """Whether the other side goes on with the message that it has begun to send or to read."""

    def __init__(self, settings: StageSettings) -> None:
        self._settings = settings
        self._message = -1
        self._since_s = self._window_s = 0.0
        self._window_bytes = 0

    def fault(self, now_s: float, message: int, moved_bytes: int) -> DeadlineExceeded | None:
        """The fault, if there is one; `message` is the number of the incomplete one, `moved_bytes` are those of all."""
        settings = self._settings
        if message != self._message:
            self._message, self._since_s = message, now_s
            self._window_s, self._window_bytes = now_s, moved_bytes
        if now_s - self._since_s > settings.request_timeout_s:
            return DeadlineExceeded(f"the message did not arrive within {settings.request_timeout_s:g} s")
        if now_s - self._window_s >= settings.slow_after_s:
            came_bytes = moved_bytes - self._window_bytes
            wanted_bytes = settings.min_bytes_per_s * settings.slow_after_s
            if came_bytes < wanted_bytes:
                return DeadlineExceeded(
                    f"want {wanted_bytes:.0f} bytes of the message in {settings.slow_after_s:g} s, got {came_bytes}"
                )
            self._window_s, self._window_bytes = now_s, moved_bytes
        return None


class Inbox:
    """The messages of one call out of the pieces that they arrive in."""

    def __init__(self, limits: Limits, in_flight_bytes: InFlightBytes, unpacking: Executor) -> None:
        self._limits, self._in_flight_bytes, self._unpacking = limits, in_flight_bytes, unpacking
        self._taken_bytes = 0
        self._held = bytearray()
        self._whole: deque[tuple[int, bytes]] = deque()  # whether it is compressed, and what it is
        self.count = 0  # of messages that arrived whole
        self.arrived_bytes = 0

    @property
    def waiting(self) -> int:
        """Whole messages that nobody has taken."""
        return len(self._whole)

    @property
    def held_bytes(self) -> int:
        """Of a message that has not arrived whole."""
        return len(self._held)

    def feed(self, data: bytes) -> None:
        """Raises `Overloaded` when there is no room for what arrives, or a message is over the limit."""
        self._take(len(data))
        self.arrived_bytes += len(data)
        held = self._held
        held += data
        while len(held) >= PREFIX and len(held) >= (end := PREFIX + self._limits.length(held)):
            self._take(MESSAGE_BYTES)
            self._whole.append((held[0], bytes(memoryview(held)[PREFIX:end])))
            del held[:end]
            self.count += 1

    def check_end(self) -> None:
        """Raises `InvalidRequest` when the caller has ended within a message."""
        if self._held:
            raise InvalidRequest(f"the stream ended within a message, after {len(self._held)} bytes of it")

    async def take(self) -> bytes:
        """The next whole message, unpacked. One that is large when unpacked has room, or is refused."""
        compressed, data = self._whole.popleft()
        try:
            return await self._unpacked(data) if compressed else data
        finally:
            self._give(_size(data))

    def close(self) -> None:
        """Gives back the room of what nobody takes any more. A message that is being unpacked gives back its own."""
        self._give(len(self._held) + sum(_size(data) for _, data in self._whole))
        self._held.clear()
        self._whole.clear()

    async def _unpacked(self, data: bytes) -> bytes:
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
        self._in_flight_bytes.take(size_bytes, self._taken_bytes)
        self._taken_bytes += size_bytes

    def _give(self, size_bytes: int) -> None:
        self._in_flight_bytes.give(size_bytes)
        self._taken_bytes -= size_bytes


def _size(data: bytes) -> int:
    """The room of a whole message."""
    return MESSAGE_BYTES + PREFIX + len(data)


def _next(pieces: Iterator[bytes]) -> bytes:
    """Empty at the end."""
    return next((piece for piece in pieces if piece), b"")
