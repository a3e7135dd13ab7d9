"""Messages of a call: reassembled and decompressed, within bytes in flight that all calls share, at a minimum rate."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor

from triptych.errors import DeadlineExceeded, InvalidRequest
from triptych.http2.framing import PREFIX, MessageLimits
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.settings import StageSettings

MESSAGE_BYTES = 96  # memory of a waiting message beside its contents


class MinDataRate:
    """Minimum rate at which the other side has to send or read a message that it has begun."""

    def __init__(self, settings: StageSettings) -> None:
        self._settings = settings
        self._message = -1
        self._since_s = self._window_s = 0.0
        self._window_bytes = 0

    def fault(self, now_s: float, message: int, moved_bytes: int) -> DeadlineExceeded | None:
        """The fault, or None. `message` numbers the incomplete message, `moved_bytes` counts the bytes of all."""
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


class MessageDeframer:
    """Reassembles the messages of one call from the pieces in which they arrive."""

    def __init__(self, limits: MessageLimits, in_flight_bytes: InFlightBytes, decompression: Executor) -> None:
        self._limits, self._in_flight_bytes, self._decompression = limits, in_flight_bytes, decompression
        self._used_bytes = 0
        self._partial = bytearray()
        self._whole: deque[tuple[int, bytes]] = deque()  # compressed flag, contents
        self.count = 0  # messages that arrived whole
        self.received_bytes = 0

    @property
    def waiting(self) -> int:
        """Number of whole messages not read yet."""
        return len(self._whole)

    @property
    def partial_bytes(self) -> int:
        """Bytes of a message that has not arrived whole."""
        return len(self._partial)

    def feed(self, data: bytes) -> None:
        """Add a piece. Raises `Overloaded` when the bytes in flight or a message exceed their limit."""
        self._acquire(len(data))
        self.received_bytes += len(data)
        partial = self._partial
        partial += data
        while len(partial) >= PREFIX and len(partial) >= (end := PREFIX + self._limits.length(partial)):
            self._acquire(MESSAGE_BYTES)
            self._whole.append((partial[0], bytes(memoryview(partial)[PREFIX:end])))
            del partial[:end]
            self.count += 1

    def check_end(self) -> None:
        """Raises `InvalidRequest` when the input ended within a message."""
        if self._partial:
            raise InvalidRequest(f"the stream ended within a message, after {len(self._partial)} bytes of it")

    async def next_message(self) -> bytes:
        """The next whole message, decompressed. Raises `Overloaded` when it does not fit the bytes in flight."""
        compressed, data = self._whole.popleft()
        try:
            return await self._decompressed(data) if compressed else data
        finally:
            self._release(_size(data))

    def close(self) -> None:
        """Release the bytes of unread messages. A message that is being decompressed releases its own."""
        self._release(len(self._partial) + sum(_size(data) for _, data in self._whole))
        self._partial.clear()
        self._whole.clear()

    async def _decompressed(self, data: bytes) -> bytes:
        pieces, message, counted = self._limits.pieces(data), bytearray(), 0
        loop = asyncio.get_running_loop()
        try:
            while piece := await loop.run_in_executor(self._decompression, _next, pieces) if message else _next(pieces):
                self._acquire(len(piece))
                counted += len(piece)
                message += piece
            return bytes(message)
        finally:
            self._release(counted)

    def _acquire(self, size_bytes: int) -> None:
        self._in_flight_bytes.acquire(size_bytes, self._used_bytes)
        self._used_bytes += size_bytes

    def _release(self, size_bytes: int) -> None:
        self._in_flight_bytes.release(size_bytes)
        self._used_bytes -= size_bytes


def _size(data: bytes) -> int:
    """Bytes in flight that a whole message counts for."""
    return MESSAGE_BYTES + PREFIX + len(data)


def _next(pieces: Iterator[bytes]) -> bytes:
    """Empty at the end."""
    return next((piece for piece in pieces if piece), b"")
