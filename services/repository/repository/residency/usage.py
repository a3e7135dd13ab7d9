"""How much each version is used: what decides who keeps its place. Pure.

A request counts one and half as much every `half_life_s` later, so the score is the number of requests lately. By it
the model with the fewest requests lately goes first: under steady traffic that keeps the popular models through a
burst of rare ones, which least-recently-used does not; with `half_life_s` 0 it is least-recently-used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Key = tuple[str, int]  # model and version

DECAYED = 40  # half-lives after which a count is nothing


@dataclass(slots=True)
class _Use:
    score: float = 0.0
    scored_s: float = 0.0
    last_s: float = -math.inf


class Usage:
    """Counts of use by version, over all Tritons. `now_s` is any clock that never goes back."""

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._uses: dict[Key, _Use] = {}

    def record(self, key: Key, requests: float, now_s: float) -> None:
        """So many requests were seen for the version."""
        use = self._uses.setdefault(key, _Use())
        use.score = self._decayed(use, now_s) + requests
        use.scored_s = use.last_s = now_s

    def coldness(self, key: Key, now_s: float) -> tuple[float, float]:
        """What to sort by: the first goes first."""
        use = self._uses.get(key)
        return (self._decayed(use, now_s), use.last_s) if use else (0.0, -math.inf)

    def requests_per_s(self, key: Key, now_s: float) -> float:
        """The rate lately; 0 when nothing is remembered."""
        use = self._uses.get(key)
        return self._decayed(use, now_s) * math.log(2) / self._half_life_s if use and self._half_life_s else 0.0

    def idle_s(self, key: Key, now_s: float) -> float:
        """Seconds since the last request; infinite when there was none."""
        use = self._uses.get(key)
        return now_s - use.last_s if use else math.inf

    def forget_idle(self, longer_than_s: float, now_s: float) -> None:
        """Drops what no longer matters to any decision; 0 is never."""
        limit_s = max(longer_than_s or math.inf, self._half_life_s * DECAYED)
        self._uses = {key: use for key, use in self._uses.items() if now_s - use.last_s < limit_s}

    def _decayed(self, use: _Use, now_s: float) -> float:
        if not self._half_life_s or not use.score:
            return 0.0
        return use.score * float(0.5 ** ((now_s - use.scored_s) / self._half_life_s))
