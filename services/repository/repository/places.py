"""Places for calls that last: so many in all, and so many for each peer, so that one cannot take them from all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from triptych.errors import Overloaded


class Places:
    """`what` is named in the refusal, as in `watchers follow the catalogue`."""

    def __init__(self, most: int, most_per_peer: int, what: str) -> None:
        self._most, self._most_per_peer, self._what = most, most_per_peer, what
        self._by_peer: Counter[str] = Counter()
        self.taken = 0

    @contextmanager
    def place(self, peer: str) -> Iterator[None]:
        """One place until the end of the block; '' is a peer that is not known. Raises `Overloaded`."""
        if self.taken >= self._most:
            raise Overloaded(f"{self.taken} {self._what}, the limit; try again later")
        if peer and self._by_peer[peer] >= self._most_per_peer:
            text = f"{self._by_peer[peer]} {self._what} from {peer}, the limit for one peer; try again later"
            raise Overloaded(text)
        self.taken += 1
        self._by_peer[peer] += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._by_peer[peer] -= 1
            if not self._by_peer[peer]:
                del self._by_peer[peer]
