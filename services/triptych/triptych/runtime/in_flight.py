"""Admission control by bytes in flight: a message that does not fit is refused, and affects no other."""

from __future__ import annotations

from triptych.errors import Overloaded


class InFlightBytes:
    """Counter of bytes in flight with a limit. A request that is alone is admitted at any size."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.used_bytes = 0

    def acquire(self, size_bytes: int, own_bytes: int = 0) -> None:
        """Count more bytes, of a request that already has `own_bytes`. Raises `Overloaded` over the limit."""
        if self.used_bytes > own_bytes and self.used_bytes + size_bytes > self._limit_bytes:
            raise Overloaded(
                f"{self.used_bytes} bytes are in flight here, and {size_bytes} more are over the limit of "
                f"{self._limit_bytes}; try again later"
            )
        self.used_bytes += size_bytes

    def acquire_unchecked(self, size_bytes: int) -> None:
        """Count bytes that exist already, even over the limit."""
        self.used_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Stop counting bytes."""
        self.used_bytes -= size_bytes
