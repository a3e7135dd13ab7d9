"""Calls that last: a limit on how many there are at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from triptych.errors import Overloaded


class LastingCalls:
    """At most `most` calls. Refusals name `what`, as in `calls upload`."""

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what, self.taken = most, what, 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one until the end of the block. Raises `Overloaded`."""
        if self.taken >= self._most:
            raise Overloaded(f"{self.taken} {self._what}, the limit; try again later", retry_after_s=1.0)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
