"""How much of a Triton is kept free, so that a request for a cold model waits for its own load only. Pure.

A load takes a place, and the place of whoever goes for it is free again a load and an unload later. So there have to be
as many free places as loads come in that time, one more for the next, and some for bursts: requests that know nothing
of each other spread by the square root of their number, and with `spare_bursts` 2.5 of those, 1 load in 100 finds no
place. `python -m benchmarks policy` shows what it costs in hit rate.
"""

from __future__ import annotations

import math

from controller.placement.policy.eviction import Room
from controller.placement.settings import Limits
from triptych.runtime.ewma import Ewma

RATE_S = 30.0  # half-life of the rate of loads
LATEST_WEIGHT = 0.2  # of the latest sample in each average


class Spare:
    """What one Triton's loads and unloads were like lately. `now_s` is any clock that never goes back."""

    def __init__(self) -> None:
        # the initial values hold until the first measurement
        self.load_s, self.unload_s = Ewma(LATEST_WEIGHT, 0.3), Ewma(LATEST_WEIGHT, 1.4)
        self._rate, self._seen_s = 0.0, -math.inf
        self._bytes = Ewma(LATEST_WEIGHT)  # of a load

    def load_begins(self, size_bytes: int, now_s: float) -> None:
        """A load takes room from now on."""
        self._bytes.add(size_bytes)
        self._rate = self.loads_per_s(now_s) + math.log(2) / RATE_S
        self._seen_s = now_s

    def load_took(self, seconds: float) -> None:
        self.load_s.add(seconds)

    def unload_took(self, seconds: float) -> None:
        """From the decision until Triton's index says that the room is free."""
        self.unload_s.add(seconds)

    def loads_per_s(self, now_s: float) -> float:
        """The rate lately."""
        return self._rate * float(0.5 ** (max(0.0, now_s - self._seen_s) / RATE_S)) if self._rate else 0.0

    def room(self, budget: Room, limits: Limits, now_s: float) -> Room:
        """What is to be free of the budget: within the two shares of it that the settings name."""
        least = budget.share(limits.spare_percent)
        most = budget.share(max(limits.spare_percent, limits.spare_max_percent))
        wanted = places(self.loads_per_s(now_s) * (self.load_s.value + self.unload_s.value), limits.spare_bursts)
        return Room(
            min(max(wanted, least.models), most.models),
            min(max(int(wanted * self._bytes.value), least.bytes), most.bytes),
        )


def places(loads: float, bursts: float) -> int:
    """Places for so many loads at once on average."""
    return 1 + math.ceil(loads + bursts * math.sqrt(loads))
