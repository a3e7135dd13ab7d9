"""Requests of each version on one predictor, from two readings of Triton's counters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from controller.placement.policy.popularity import VersionKey
from controller.placement.policy.replica_count import Concurrency
from controller.placement.predictors.triton_client import Count


class RequestStatistics:
    """Use, failures and concurrency since the last reading. Requests of this process are no use."""

    def __init__(self) -> None:
        self.concurrency: Mapping[VersionKey, Concurrency] = {}  # since the last reading
        self.failing: dict[VersionKey, int] = {}  # failures since the last success
        self.succeeded: frozenset[VersionKey] = frozenset()  # since the last reading
        self._own: dict[VersionKey, Count] = {}  # requests of this process
        self._counts: Mapping[VersionKey, Count] = {}
        self._read_s: float | None = None  # time of these counts

    def read(self, counts: Mapping[VersionKey, Count], now_s: float) -> dict[VersionKey, int]:
        """Requests of each version since the last reading; none at the first."""
        first, elapsed_s = self._read_s is None, now_s - (self._read_s or 0.0)
        requests, concurrency, succeeded = {}, {}, set()
        for key, count in counts.items():
            before = self._before(key, count)
            if count.requests > before.requests:
                requests[key] = count.use_since(before)
                concurrency[key] = _concurrency(before, count, elapsed_s)
                failures = count.failures - before.failures
                if count.requests - before.requests > failures:
                    succeeded.add(key)
                elif not first:
                    self.failing[key] = self.failing.get(key, 0) + failures
        self._counts, self._read_s, self.concurrency = counts, now_s, {} if first else concurrency
        if self.failing:
            self.failing = {key: n for key, n in self.failing.items() if key in counts and key not in succeeded}
        self.succeeded = frozenset() if first else frozenset(succeeded)
        return {} if first else requests

    def add_own(self, key: VersionKey, rows: int) -> None:
        """Count a request of this process."""
        own = self._own.get(key, Count())
        self._own[key] = Count(own.requests + 1, rows=own.rows + rows, failures=own.failures)

    def add_own_failure(self, key: VersionKey) -> None:
        """Count the failure of a request of this process."""
        own = self._own[key]
        self._own[key] = replace(own, failures=own.failures + 1)

    def prune_own(self, ready: Collection[VersionKey]) -> None:
        """Drop the requests of this process to versions that are no longer loaded: Triton's counters begin anew."""
        if self._own:
            self._own = {key: count for key, count in self._own.items() if key in ready}

    def forget(self) -> None:
        """Drop what was read of a Triton that is gone."""
        self.concurrency, self.failing = {}, {}

    def _before(self, key: VersionKey, count: Count) -> Count:
        """Counts of the last reading; those of this process alone if the version was loaded anew."""
        before, own = self._counts.get(key, Count()), self._own.get(key, Count())
        return own if count.requests < before.requests or before.requests < own.requests else before


def _concurrency(before: Count, count: Count, elapsed_s: float) -> Concurrency:
    elapsed_ns = max(elapsed_s, 1e-3) * 1e9
    return Concurrency((count.queue_ns - before.queue_ns) / elapsed_ns, (count.total_ns - before.total_ns) / elapsed_ns)
