"""Background requests, such as those of a batch job: they are answered from what other requests leave.

They are refused first, queue apart from the others, and start only while no other request waits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from preprocess.slots import Slots

POLL_S = 0.002  # between two looks whether others still wait


@dataclass(frozen=True, slots=True)
class BackgroundKey:
    """Batch key of background requests, so that no other request is in their batch."""

    key: Hashable


class BackgroundSlots(Slots):
    """Slots for background batches of all versions. None is given while `others_wait`."""

    def __init__(self, limit: int, hold_s: float, others_wait: Callable[[], bool]) -> None:
        super().__init__(limit, hold_s)
        self._others_wait = others_wait

    def take(self, batch: object) -> bool:
        return not self._others_wait() and super().take(batch)

    def _offer(self) -> None:
        if self._others_wait():
            self._offering = None
            self._schedule_offer(POLL_S)
        else:
            super()._offer()
