"""Admission by bytes in flight: a request that does not fit is refused, and costs no other request its place."""

from __future__ import annotations

from triptych.errors import Overloaded


class InFlightBytes:
    """Whoever takes room gives it back. One that is alone always has room, however large it is."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.taken_bytes = 0

    def take(self, size_bytes: int, own_bytes: int = 0) -> None:
        """Raises `Overloaded` when so much more is too much. Of what is taken, `own_bytes` are the same request's."""
        if self.taken_bytes > own_bytes and self.taken_bytes + size_bytes > self._limit_bytes:
            raise Overloaded(
                f"{self.taken_bytes} bytes of requests are in hand here, and {size_bytes} more are over the limit of "
                f"{self._limit_bytes}; try again later"
            )
        self.taken_bytes += size_bytes

    def add(self, size_bytes: int) -> None:
        """What has been made already takes room in any case."""
        self.taken_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        """Gives room back."""
        self.taken_bytes -= size_bytes
