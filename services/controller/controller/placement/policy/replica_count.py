"""Replica count: the number of predictors that hold a busy version. Pure.

One more while requests queue: more than `replicas_up_waiting` of them at each replica, on average, for `replicas_up_s`.
One less when the remaining replicas would still be idle half of the time, for `replicas_down_s`.
The averages are Little's law over Triton's statistics: time that requests spent there, divided by the elapsed time.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.placement.policy.popularity import VersionKey
from controller.placement.settings import PlacementSettings

IDLE_SHARE = 0.5


@dataclass(frozen=True)
class Concurrency:
    """Average requests of one version between two observations, over all its replicas: queued, and in all."""

    waiting: float = 0.0
    in_flight: float = 0.0

    def __add__(self, other: Concurrency) -> Concurrency:
        return Concurrency(self.waiting + other.waiting, self.in_flight + other.in_flight)


class ReplicaCount:
    """The start of each version's period of too much load, or of too little."""

    def __init__(self, settings: PlacementSettings) -> None:
        self._settings = settings
        self._since: dict[VersionKey, tuple[int, float]] = {}  # +1 or -1, and the start

    def change(self, key: VersionKey, replicas: int, concurrency: Concurrency, now_s: float) -> int:
        """+1, -1 or 0 replicas. A change starts a new period."""
        settings = self._settings
        direction = 0
        if concurrency.waiting > settings.replicas_up_waiting * replicas:
            direction = 1
        elif replicas > 1 and concurrency.in_flight < IDLE_SHARE * (replicas - 1):
            direction = -1
        if direction == 0:
            self._since.pop(key, None)
            return 0
        known, since = self._since.get(key, (0, now_s))
        if known != direction:
            self._since[key] = (direction, now_s)
            since = now_s
        if now_s - since < (settings.replicas_up_s if direction > 0 else settings.replicas_down_s):
            return 0
        del self._since[key]
        return direction

    @property
    def pending(self) -> tuple[VersionKey, ...]:
        """Versions whose period has begun and not ended."""
        return tuple(self._since)

    def forget(self, key: VersionKey) -> None:
        self._since.pop(key, None)
