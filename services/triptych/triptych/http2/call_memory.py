"""Memory of an open call: itself with its metadata, and the part of its answer that its caller has not read."""

from __future__ import annotations

from triptych.errors import Overloaded
from triptych.http2.framing import size_fault
from triptych.http2.server_context import ServerContext

# Memory of an open call: 20,000 silent ModelStreamInfer took 16 KiB each (2026-11-30). The metadata stands in it as
# bytes and as text.
CALL_BYTES = 16 << 10
METADATA_WEIGHT = 4


class CallMemory:
    """A call with what it takes of the limits that all calls of the server share."""

    __slots__ = ("_call_bytes", "_context", "_unsent_bytes")

    # Set by the subclass: a constructor of this class took a hundredth of a call's instructions.
    _context: ServerContext
    _call_bytes: int
    _unsent_bytes: int

    def evict(self) -> None:
        """End the call, which waits for its caller, because others need its memory."""
        raise NotImplementedError

    def count_call(self, size_bytes: int) -> Overloaded | None:
        """Count the call and its metadata of a size. Return the error if either is over its limit."""
        if fault := size_fault(size_bytes, self._context.max_metadata_bytes):
            return fault
        call_bytes = CALL_BYTES + METADATA_WEIGHT * size_bytes
        try:
            self._context.admit_call(call_bytes)
        except Overloaded as error:
            return error
        self._call_bytes = call_bytes
        return None

    def touch(self) -> None:
        """Note that the call waits for its caller, who has just done something. A call is not evicted once answered."""
        if self._call_bytes:
            waiting = self._context.waiting
            waiting.pop(self, None)
            waiting[self] = None

    def release_call(self) -> None:
        """Stop counting the call and its metadata."""
        self._context.waiting.pop(self, None)
        self._context.call_bytes.release(self._call_bytes)
        self._call_bytes = 0

    def count_unsent(self, size_bytes: int) -> None:
        """Count the unsent bytes of the answer, in place of those counted before. Raises `Overloaded`."""
        self.release_unsent()
        if size_bytes:
            self._context.outbound_bytes.acquire(size_bytes)
            self._unsent_bytes = size_bytes

    def release_unsent(self) -> None:
        """Stop counting the unsent bytes of the answer."""
        if self._unsent_bytes:
            self._context.outbound_bytes.release(self._unsent_bytes)
            self._unsent_bytes = 0
