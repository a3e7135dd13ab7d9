"""Counts of a version within a window of time. Pure.

Counters start at 0 with their process and only grow. A count is the sum of a counter's increases since the window was
opened. A counter that has become smaller was restarted, and its whole value counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

REQUESTS = "triptych_version_requests_total"
SECONDS = "triptych_version_seconds_bucket"
ANSWERS = "triptych_version_answers_total"

# A call that its caller cancelled says nothing about the version.
NOT_ERRORS = frozenset({"OK", "CANCELLED"})


@dataclass(frozen=True)
class Sample:
    """One counter as it was read; `origin` is the address of its process."""

    origin: str
    name: str
    labels: tuple[tuple[str, str], ...]
    value: float

    @property
    def key(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        return self.origin, self.name, self.labels


@dataclass(frozen=True)
class Reading:
    """All counters at one moment, and every address that was read, including those without counters.

    `faults` are sentences about series that were left out.
    """

    samples: Sequence[Sample]
    origins: frozenset[str]
    faults: tuple[str, ...] = ()


@dataclass
class Counts:
    """The requests of one side of the comparison.

    `latency_buckets` counts answered requests by the upper limit of their bucket in seconds, not cumulatively.
    """

    codes: Counter[str] = field(default_factory=Counter)
    latency_buckets: Counter[float] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """All requests but those that the caller cancelled."""
        return sum(count for code, count in self.codes.items() if code != "CANCELLED")

    @property
    def answered(self) -> int:
        return self.codes["OK"]

    @property
    def errors(self) -> int:
        return sum(count for code, count in self.codes.items() if code not in NOT_ERRORS)

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    def __add__(self, other: Counts) -> Counts:
        buckets = Counter(self.latency_buckets)
        buckets.update(other.latency_buckets)  # `+` would drop empty buckets, whose limits matter
        return Counts(self.codes + other.codes, buckets, self.answers + other.answers)

    def quantile(self, share: float) -> float | None:
        """Latency in seconds that the share of the answered requests does not exceed, None without any."""
        total = sum(self.latency_buckets.values())
        return self.at_rank(share * total) if total else None

    def at_rank(self, rank: float) -> float:
        """Latency in seconds of the request with that rank, interpolated linearly within its bucket.

        A rank above the last finite limit gives that limit, like Prometheus's histogram_quantile.
        """
        below, low = 0, 0.0
        for limit, count in sorted(self.latency_buckets.items()):
            if limit == float("inf"):
                break
            if count and below + count >= rank:
                return low + (limit - low) * max(0.0, rank - below) / count
            below, low = below + count, limit
        return low


class Window:
    """Sum of the increases of counters since the window was opened, by version."""

    def __init__(self) -> None:
        self._last: dict[object, float] = {}
        self._origins: set[str] = set()
        self._sums: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def open(self) -> None:
        """Start again at the counters' last values; the sums are dropped."""
        self._sums.clear()

    def add(self, reading: Reading) -> None:
        """Add the increases since the last reading. The first reading of an address only sets its start."""
        for sample in reading.samples:
            before = self._last.get(sample.key, 0.0)
            self._last[sample.key] = sample.value
            if sample.origin in self._origins:
                increase = sample.value - before if sample.value >= before else sample.value
                self._sums[sample.name, sample.labels] += round(increase)
        self._origins |= reading.origins

    def counts(self) -> Mapping[str, Counts]:
        """The counts by the label `version`."""
        by_version: dict[str, Counts] = {}
        for (name, labels), value in self._sums.items():
            label = dict(labels)
            counts = by_version.setdefault(label["version"], Counts())
            if name == REQUESTS:
                counts.codes[label["code"]] += value
            elif name == SECONDS:
                counts.latency_buckets[float(label["le"])] += value
            elif name == ANSWERS:
                counts.answers[label["value"]] += value
        for counts in by_version.values():
            counts.latency_buckets = _per_bucket(counts.latency_buckets)
        return by_version


def _per_bucket(cumulative: Counter[float]) -> Counter[float]:
    """Convert Prometheus's cumulative buckets to a count for each bucket."""
    below, own = 0, Counter[float]()
    for limit, count in sorted(cumulative.items()):
        own[limit], below = max(0, count - below), max(count, below)
    return own
