"""How much each version is used: what decides who keeps its place. Pure.

A request counts one, and half as much after `half_life_s`, or after `half_life_requests` for each loaded version,
whichever is later. So the score is the number of requests lately, and by it the version with the fewest goes first:
popular models stay through a burst of rare ones, which least-recently-used forgets, and a quiet night is not forgotten
popularity. With `half_life_s` 0 it is least-recently-used. `python -m benchmarks policy` compares them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Key = tuple[str, int]  # model and version

DECAYED = 40  # half-lives after which a count is nothing
RATE_S = 60.0  # half-life of the rate that is shown


@dataclass(slots=True)
class _Use:
    score: float = 0.0
    scored_s: float = 0.0  # on the clock of the scores
    rate: float = 0.0
    last_s: float = -math.inf


class Usage:
    """Counts of use by version, over all Tritons. `now_s` is any clock that never goes back.

    `places` is the number of versions that are loaded; whoever knows it sets it.
    """

    def __init__(self, half_life_s: float, half_life_requests: float = 0.0) -> None:
        self.places = 0
        self._half_life_s, self._half_life_requests = half_life_s, half_life_requests
        self._uses: dict[Key, _Use] = {}
        self._clock_s = 0.0  # what scores fade by: never faster than time, and slower with little traffic
        self._seen_s = -math.inf  # when it was looked at last
        self._elapsed_s = 0.0  # since the look before, as far as no request has used it up

    def record(self, key: Key, requests: float, now_s: float) -> None:
        """So many requests were seen for the version."""
        self._advance(requests, now_s)
        use = self._uses.setdefault(key, _Use())
        use.score = self._faded(use) + requests
        use.rate = _decayed(use.rate, now_s - use.last_s, RATE_S) + requests
        use.scored_s, use.last_s = self._clock_s, now_s

    def coldness(self, key: Key) -> tuple[float, float]:
        """What to sort by: the first goes first."""
        use = self._uses.get(key)
        return (self._faded(use), use.last_s) if use else (0.0, -math.inf)

    def requests_per_s(self, key: Key, now_s: float) -> float:
        """The rate lately; 0 when nothing is remembered."""
        use = self._uses.get(key)
        return _decayed(use.rate, now_s - use.last_s, RATE_S) * math.log(2) / RATE_S if use else 0.0

    def idle_s(self, key: Key, now_s: float) -> float:
        """Seconds since the last request; infinite when there was none."""
        use = self._uses.get(key)
        return now_s - use.last_s if use else math.inf

    def forget_idle(self, longer_than_s: float, now_s: float) -> None:
        """Drops what no longer matters to any decision; 0 is never."""
        limit_s, limit = longer_than_s or math.inf, self._half_life_s * DECAYED
        self._uses = {
            key: use
            for key, use in self._uses.items()
            if now_s - use.last_s < limit_s or self._clock_s - use.scored_s < limit
        }

    def _advance(self, requests: float, now_s: float) -> None:
        if now_s > self._seen_s:
            self._elapsed_s = now_s - self._seen_s if math.isfinite(self._seen_s) else 0.0
            self._seen_s = now_s
        places = self.places * self._half_life_requests
        step_s = min(self._elapsed_s, requests * self._half_life_s / places if places else math.inf)
        self._clock_s += step_s
        self._elapsed_s -= step_s

    def _faded(self, use: _Use) -> float:
        return _decayed(use.score, self._clock_s - use.scored_s, self._half_life_s)


def _decayed(score: float, after_s: float, half_life_s: float) -> float:
    return score * float(0.5 ** (after_s / half_life_s)) if half_life_s and score else 0.0
