"""Popularity of each version: the versions with the least are evicted first. Pure.

A request counts one. It counts half after `half_life_s`, or after `half_life_requests` for each loaded version,
whichever is later. So the score is the number of recent requests. Popular models survive a burst of rare ones, which
defeats least-recently-used, and a quiet night does not erase popularity. With `half_life_s` 0 the order is
least-recently-used. `python -m benchmarks policy` compares them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

VersionKey = tuple[str, int]  # model and version

DECAYED = 40  # half-lives after which a count is negligible
RATE_HALF_LIFE_S = 60.0  # of the rate that is shown


@dataclass(slots=True)
class _Score:
    score: float = 0.0
    scored_s: float = 0.0  # on the clock of the scores
    rate: float = 0.0
    last_s: float = -math.inf


class Popularity:
    """Request counts by version, over all predictors. `now_s` is any clock that never goes back.

    `loaded_versions` is the number of loaded versions, which the reconciler sets.
    """

    def __init__(self, half_life_s: float, half_life_requests: float = 0.0) -> None:
        self.loaded_versions = 0
        self._half_life_s, self._half_life_requests = half_life_s, half_life_requests
        self._scores: dict[VersionKey, _Score] = {}
        self._clock_s = 0.0  # by which scores decay: never faster than time, and slower with little traffic
        self._seen_s = -math.inf  # the time of the last record
        self._elapsed_s = 0.0  # since the record before, as far as no request has used it up

    def __len__(self) -> int:
        return len(self._scores)

    def record(self, key: VersionKey, requests: float, now_s: float) -> None:
        """Add requests for the version; 0 marks it as used."""
        self._advance(requests, now_s)
        score = self._scores.setdefault(key, _Score())
        score.score = self._faded(score) + requests
        score.rate = _decayed(score.rate, now_s - score.last_s, RATE_HALF_LIFE_S) + requests
        score.scored_s, score.last_s = self._clock_s, now_s

    def coldness(self, key: VersionKey) -> tuple[float, float]:
        """The sort key of eviction: the least is evicted first."""
        score = self._scores.get(key)
        return (self._faded(score), score.last_s) if score else (0.0, -math.inf)

    def requests_per_s(self, key: VersionKey, now_s: float) -> float:
        """The recent rate; 0 for an unknown version."""
        score = self._scores.get(key)
        if score is None:
            return 0.0
        return _decayed(score.rate, now_s - score.last_s, RATE_HALF_LIFE_S) * math.log(2) / RATE_HALF_LIFE_S

    def idle_s(self, key: VersionKey, now_s: float) -> float:
        """Seconds since the last request; infinite when there was none."""
        score = self._scores.get(key)
        return now_s - score.last_s if score else math.inf

    def prune(self, idle_s: float, now_s: float) -> None:
        """Forget versions whose score no longer matters and that were idle for that long; 0 is never."""
        limit_s, limit = idle_s or math.inf, self._half_life_s * DECAYED
        self._scores = {
            key: score
            for key, score in self._scores.items()
            if now_s - score.last_s < limit_s or self._clock_s - score.scored_s < limit
        }

    def _advance(self, requests: float, now_s: float) -> None:
        if now_s > self._seen_s:
            self._elapsed_s = now_s - self._seen_s if math.isfinite(self._seen_s) else 0.0
            self._seen_s = now_s
        per_half_life = self.loaded_versions * self._half_life_requests
        step_s = min(self._elapsed_s, requests * self._half_life_s / per_half_life if per_half_life else math.inf)
        self._clock_s += step_s
        self._elapsed_s -= step_s

    def _faded(self, score: _Score) -> float:
        return _decayed(score.score, self._clock_s - score.scored_s, self._half_life_s)


def _decayed(score: float, after_s: float, half_life_s: float) -> float:
    return score * float(0.5 ** (after_s / half_life_s)) if half_life_s and score else 0.0
