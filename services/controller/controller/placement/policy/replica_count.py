"""On how many Tritons a busy model is loaded. Pure.

One more when requests wait: with more than `copies_up_waiting` of them in the queue of each copy, on average and for
`copies_up_s`. One less when those that remain would still be idle half of the time, for `copies_down_s`.
The averages are Little's law over Triton's statistics: time that requests spent there, divided by time that went by.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.placement.policy.popularity import Key
from controller.placement.settings import Limits

IDLE_HALF = 0.5


@dataclass(frozen=True)
class Busy:
    """Requests of one version in all its Tritons, on average between two looks: in the queue, and in all."""

    waiting: float = 0.0
    in_flight: float = 0.0

    def __add__(self, other: Busy) -> Busy:
        return Busy(self.waiting + other.waiting, self.in_flight + other.in_flight)


class CopyCount:
    """Remembers since when a version has been too busy, or not busy enough."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._since: dict[Key, tuple[int, float]] = {}  # +1 or -1, and since when

    def change(self, key: Key, copies: int, busy: Busy, now_s: float) -> int:
        """+1, -1 or 0 copies. After a change the time starts anew."""
        limits = self._limits
        direction = 0
        if busy.waiting > limits.copies_up_waiting * copies:
            direction = 1
        elif copies > 1 and busy.in_flight < IDLE_HALF * (copies - 1):
            direction = -1
        if direction == 0:
            self._since.pop(key, None)
            return 0
        known, since = self._since.get(key, (0, now_s))
        if known != direction:
            self._since[key] = (direction, now_s)
            since = now_s
        if now_s - since < (limits.copies_up_s if direction > 0 else limits.copies_down_s):
            return 0
        del self._since[key]
        return direction

    @property
    def watched(self) -> tuple[Key, ...]:
        """Versions that are on their way to a change."""
        return tuple(self._since)

    def forget(self, key: Key) -> None:
        self._since.pop(key, None)
