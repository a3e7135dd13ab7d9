"""Slots for long calls: a limit for all, a limit for each peer, and a share reserved for the stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from triptych.errors import Overloaded
from triptych.protocol.call import Call


@dataclass(frozen=True)
class Reservation:
    """`percent` of all slots for callers whose certificate has one of `names`; without names, none."""

    names: frozenset[str] = frozenset()
    percent: int = 0

    def slots(self, most: int) -> int:
        """Number of reserved slots: at least one, so that a stage gets one."""
        return max(1, most * self.percent // 100) if self.names and self.percent else 0

    def covers(self, call: Call) -> bool:
        return bool(self.names) and not self.names.isdisjoint(call.identity)


class CallSlots:
    """Slots of one kind of call. Refusals name `what`, as in `watchers follow the catalog`."""

    def __init__(self, most: int, most_per_peer: int, what: str, reservation: Reservation | None = None) -> None:
        self._most, self._most_per_peer, self._what = most, most_per_peer, what
        self._reservation = reservation or Reservation()
        self._most_others = most - self._reservation.slots(most)
        self._others = 0  # slots of callers without a reservation
        self._by_peer: Counter[str] = Counter()
        self.taken = 0

    @contextmanager
    def slot(self, call: Call) -> Iterator[None]:
        """Hold one slot until the end of the block. Raises `Overloaded`."""
        peer, others = call.peer, not self._reservation.covers(call)
        self._check(peer, others)
        self.taken += 1
        self._others += others
        self._by_peer[peer] += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._others -= others
            self._by_peer[peer] -= 1
            if not self._by_peer[peer]:
                del self._by_peer[peer]

    def _check(self, peer: str, others: bool) -> None:
        """Raise `Overloaded` at a limit. `peer` is empty if the server does not know it."""
        if self.taken >= self._most:
            raise Overloaded(f"{self.taken} {self._what}, the limit; try again later")
        if others and self._others >= self._most_others:
            text = f"{self._others} {self._what} without a certificate of a stage, the limit for them; try again later"
            raise Overloaded(text)
        if peer and self._by_peer[peer] >= self._most_per_peer:
            text = f"{self._by_peer[peer]} {self._what} from {peer}, the limit for one peer; try again later"
            raise Overloaded(text)
