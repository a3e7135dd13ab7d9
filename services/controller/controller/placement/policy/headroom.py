"""Headroom: capacity kept free in a predictor, so that a request for a cold model waits for its own load only. Pure.

A load takes a slot. The slot of its victim is free again one load and one unload later. So the headroom is the loads
that arrive in that time, one more for the next, and a reserve for bursts. Independent requests spread by the square
root of their number: with a reserve of 2.5 square roots (`headroom_bursts`), 1 load in 100 finds no free slot.
`python -m benchmarks policy` shows the cost in hit rate.
"""

from __future__ import annotations

import math

from controller.placement.policy.eviction import Capacity
from controller.placement.settings import PlacementSettings
from triptych.runtime.ewma import Ewma

RATE_HALF_LIFE_S = 30.0  # of the rate of loads
LATEST_WEIGHT = 0.2  # of the latest sample in each average


class Headroom:
    """EWMA of the rate, duration and size of the loads of one predictor. `now_s` is any clock that never goes back."""

    def __init__(self) -> None:
        # the initial values hold until the first measurement
        self.load_s, self.unload_s = Ewma(LATEST_WEIGHT, 0.3), Ewma(LATEST_WEIGHT, 1.4)
        self._rate, self._seen_s = 0.0, -math.inf
        self._bytes = Ewma(LATEST_WEIGHT)  # of a load

    def load_begins(self, size_bytes: int, now_s: float) -> None:
        """Count a load that takes capacity from now on."""
        self._bytes.add(size_bytes)
        self._rate = self.loads_per_s(now_s) + math.log(2) / RATE_HALF_LIFE_S
        self._seen_s = now_s

    def load_took(self, seconds: float) -> None:
        """Record the duration of a load, without its wait in the queue."""
        self.load_s.add(seconds)

    def unload_took(self, seconds: float) -> None:
        """Record the time from the decision until Triton's index no longer has the version."""
        self.unload_s.add(seconds)

    def loads_per_s(self, now_s: float) -> float:
        """The recent rate."""
        return self._rate * float(0.5 ** (max(0.0, now_s - self._seen_s) / RATE_HALF_LIFE_S)) if self._rate else 0.0

    def capacity(self, budget: Capacity, settings: PlacementSettings, now_s: float) -> Capacity:
        """The capacity to keep free: by the recent loads, between the two shares of the budget in the settings."""
        least = budget.share(settings.headroom_percent)
        most = budget.share(max(settings.headroom_percent, settings.headroom_max_percent))
        turn_s = self.load_s.value + self.unload_s.value
        slots = free_slots(self.loads_per_s(now_s) * turn_s, settings.headroom_bursts)
        return Capacity(
            min(max(slots, least.models), most.models),
            min(max(int(slots * self._bytes.value), least.bytes), most.bytes),
        )


def free_slots(loads: float, bursts: float) -> int:
    """Slots for that many loads at once on average, with a reserve of `bursts` square roots of them."""
    return 1 + math.ceil(loads + bursts * math.sqrt(loads))
