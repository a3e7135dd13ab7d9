"""Exponentially weighted moving average, for estimates that follow the latest measurements."""

from __future__ import annotations


class Ewma:
    """Exponentially weighted moving average (EWMA). Without an `initial` value it starts at the first sample."""

    __slots__ = ("_has_value", "_weight", "value")

    def __init__(self, weight: float, initial: float | None = None) -> None:
        """`weight` of the latest sample, from 0 to 1. Until the first sample `value` is `initial`, or 0."""
        self._weight, self._has_value = weight, initial is not None
        self.value = initial or 0.0

    def add(self, sample: float) -> None:
        """Move the average towards the sample."""
        if self._has_value:
            self.value += self._weight * (sample - self.value)
        else:
            self.value, self._has_value = sample, True
