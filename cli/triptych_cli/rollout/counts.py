"""What was counted of a version within a window. Pure.

Counters only grow, start at 0 with their process, and are read now and then: what counts is the sum of their
increases since the window was opened. A counter that has become smaller was started anew, and all of it counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

REQUESTS = "triptych_version_requests_total"
SECONDS = "triptych_version_seconds_bucket"
ANSWERS = "triptych_version_answers_total"

# The caller hung up: it says nothing of who answered.
NOT_ERRORS = frozenset({"OK", "CANCELLED"})


@dataclass(frozen=True)
class Sample:
    """One counter as it was read: whose (an address), its name, its labels."""

    origin: str
    name: str
    labels: tuple[tuple[str, str], ...]
    value: float

    @property
    def key(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        return self.origin, self.name, self.labels


@dataclass(frozen=True)
class Reading:
    """All counters at one moment, and every address that was read, also those that showed none.

    `faults` are sentences about what was left out.
    """

    samples: Sequence[Sample]
    origins: frozenset[str]
    faults: tuple[str, ...] = ()


@dataclass
class Counts:
    """One side of the comparison. `seconds` are answered requests by the upper limit of their bucket."""

    codes: Counter[str] = field(default_factory=Counter)
    seconds: Counter[float] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """Requests that say something: all but those that the caller gave up."""
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
        seconds = Counter(self.seconds)
        seconds.update(other.seconds)  # `+` would drop the empty buckets, whose limits matter
        return Counts(self.codes + other.codes, seconds, self.answers + other.answers)

    def quantile(self, part: float) -> float | None:
        """Seconds within which `part` of the answered requests were, None without any."""
        total = sum(self.seconds.values())
        return self.at_rank(part * total) if total else None

    def at_rank(self, rank: float) -> float:
        """Seconds within which `rank` requests were answered, on a straight line between a bucket's limits.

        What lies above the last limit counts as that limit, as in Prometheus's histogram_quantile.
        """
        below, low = 0, 0.0
        for limit, count in sorted(self.seconds.items()):
            if limit == float("inf"):
                break
            if count and below + count >= rank:
                return low + (limit - low) * max(0.0, rank - below) / count
            below, low = below + count, limit
        return low


class Window:
    """Adds up the increases of counters from its opening on, by version."""

    def __init__(self) -> None:
        self._last: dict[object, float] = {}
        self._origins: set[str] = set()
        self._sums: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def open(self) -> None:
        """From here on: what was counted is dropped, what the counters show is where they start."""
        self._sums.clear()

    def add(self, reading: Reading) -> None:
        """What the counters show now. An address that is read for the first time only says where it starts."""
        for sample in reading.samples:
            before = self._last.get(sample.key, 0.0)
            self._last[sample.key] = sample.value
            if sample.origin in self._origins:
                increase = sample.value - before if sample.value >= before else sample.value
                self._sums[sample.name, sample.labels] += round(increase)
        self._origins |= reading.origins

    def counts(self) -> Mapping[str, Counts]:
        """By the label `version`."""
        by_version: dict[str, Counts] = {}
        for (name, labels), value in self._sums.items():
            label = dict(labels)
            counts = by_version.setdefault(label["version"], Counts())
            if name == REQUESTS:
                counts.codes[label["code"]] += value
            elif name == SECONDS:
                counts.seconds[float(label["le"])] += value
            elif name == ANSWERS:
                counts.answers[label["value"]] += value
        for counts in by_version.values():
            counts.seconds = _apart(counts.seconds)
        return by_version


def _apart(cumulative: Counter[float]) -> Counter[float]:
    """Each bucket's own count from Prometheus's cumulative ones."""
    below, own = 0, Counter[float]()
    for limit, count in sorted(cumulative.items()):
        own[limit], below = max(0, count - below), max(count, below)
    return own
