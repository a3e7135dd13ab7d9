"""Slots for the batches of all versions that share a Triton. Beyond them requests queue, and their batches grow.

A Triton without a GPU works on as many batches at once as it has cores. More in flight would only wait there for a
core, one call each. In a queue of preprocess, requests of one version share a call meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from triptych.runtime.ewma import Ewma

SMOOTHING = 0.2  # weight of the newest value in an EWMA


class Slots:
    """At most `limit` batches in flight that started less than `hold_s` ago.

    A batch that takes longer loses its slot, so that slow models keep others waiting for no longer than that.
    """

    def __init__(self, limit: int, hold_s: float) -> None:
        self._limit, self._hold_s = limit, hold_s
        self._loop = asyncio.get_running_loop()
        self._taken_s: dict[object, float] = {}  # when each batch took its slot, oldest first
        self._waiting: dict[Callable[[], None], None] = {}  # first come, first served
        self._offering: asyncio.Handle | None = None  # the next offer of free slots to those that wait
        self._is_offered = False
        self._offered_s: float | None = None  # the latest offer, if others waited ever since
        self._interval_s = Ewma(SMOOTHING)  # between two slots that were taken by those that waited

    @property
    def is_idle(self) -> bool:
        """Whether no batch has a slot or waits for one."""
        self._drop_old(time.monotonic())
        return not self._taken_s and not self._waiting

    @property
    def expected_wait_s(self) -> float:
        """Time that one more would wait for a slot, by the rate at which those before it got theirs."""
        return self._interval_s.value * len(self._waiting)

    def take(self, batch: object) -> bool:
        """Take a slot for a batch. Return whether there was one, and nobody waited for it."""
        if self._waiting and not self._is_offered:
            return False
        now_s = time.monotonic()
        if len(self._taken_s) >= self._limit:
            self._drop_old(now_s)
            if len(self._taken_s) >= self._limit:
                return False
        self._taken_s[batch] = now_s
        return True

    def give_back(self, batch: object) -> None:
        """Give back the slot of a batch, unless it has lost it."""
        if self._taken_s.pop(batch, None) is not None and self._waiting:
            self._schedule_offer(0.0)

    def wait(self, on_slot: Callable[[], None]) -> None:
        """Call `on_slot` once when a slot is free. It takes the slot, or leaves it to the next that waits."""
        if not self._waiting:
            self._offered_s = None
        self._waiting[on_slot] = None
        if self._offering is None:
            self._schedule_offer(self._until_free_s())

    def _schedule_offer(self, delay_s: float) -> None:
        if self._offering is not None:
            self._offering.cancel()
        loop = self._loop
        self._offering = loop.call_later(delay_s, self._offer) if delay_s > 0 else loop.call_soon(self._offer)

    def _offer(self) -> None:
        """Offer the free slots to those that have waited longest."""
        self._offering, self._is_offered, now_s = None, True, time.monotonic()
        self._drop_old(now_s)
        while self._waiting and len(self._taken_s) < self._limit:
            on_slot = next(iter(self._waiting))
            del self._waiting[on_slot]
            on_slot()
            if self._offered_s is not None:
                self._interval_s.add(now_s - self._offered_s)
            self._offered_s = now_s
        self._is_offered = False
        if self._waiting:
            self._schedule_offer(self._until_free_s())

    def _until_free_s(self) -> float:
        """Time until the oldest batch loses its slot."""
        oldest_s = next(iter(self._taken_s.values()), 0.0)
        return oldest_s + self._hold_s - time.monotonic()

    def _drop_old(self, now_s: float) -> None:
        """Take the slots from batches that have had them for long."""
        taken_s = self._taken_s
        while taken_s and taken_s[batch := next(iter(taken_s))] <= now_s - self._hold_s:
            del taken_s[batch]
