"""Exponential backoff with jitter, and a token bucket that limits calls."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator


def exponential_backoff(first_s: float, most_s: float) -> Iterator[float]:
    """Pauses that double from `first_s` to `most_s`, with a jitter of a fifth that spreads replicas."""
    pause_s = first_s
    while True:
        yield pause_s * random.uniform(0.8, 1.2)
        pause_s = min(pause_s * 2, most_s)


class TokenBucket:
    """A burst of calls at once, then `per_s` calls a second."""

    def __init__(self, burst: int, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_s, self._clock = float(burst), per_s, clock
        self._tokens, self._filled_at = float(burst), clock()

    def take(self) -> float:
        """Take one token and return 0, or return the seconds until the next one."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_s)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._per_s
        self._tokens -= 1
        return 0.0
