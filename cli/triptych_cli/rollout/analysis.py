"""Is the new version worse than the old? Pure; every test is one-sided and says "worse" only when it is sure.

- Error rate: the lower limit of the difference of two proportions, made of two Wilson score intervals (Newcombe,
  "Interval estimation for the difference between independent proportions", Statistics in Medicine 17, 1998, method
  10). It holds with few requests and with no error at all, where the normal test does not.
- Latency: limits of a quantile without assuming a distribution (Conover, "Practical Nonparametric Statistics", 1999,
  section 3.2): how many of n requests may lie above the true quantile by chance is binomial.
- Answers: total variation distance, the share of answers that would have to change for the two to agree. Its
  chance part is at most sqrt((k - 1) / n) / 2 on average, and exceeds that by t with probability exp(-2 n t^2)
  (Canonne, "A short note on learning discrete distributions", arXiv:2002.11457).

The chance of calling an equal version worse is at most about `Certainty.chance` for each test, and there are four. A
step is looked at again and again, so a look before its end asks for much more (Haybittle and Peto's rule:
Peto et al., British Journal of Cancer 34, 1976, section 10).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from triptych_cli.rollout.counts import Counts


@dataclass(frozen=True)
class Limits:
    """How much worse the new version may be. Ratios and shares, not percent."""

    error_rate_increase: float = 0.01
    latency_ratio: float = 1.5
    answer_shift: float = 0.2
    min_requests: int = 50


@dataclass(frozen=True)
class Certainty:
    """`chance` of calling an equal version worse; `z` is the same as a quantile of the normal distribution."""

    chance: float
    z: float


AT_THE_END = Certainty(0.0005, 3.2905)
ON_THE_WAY = Certainty(0.00001, 4.2649)

QUANTILES = (0.5, 0.99)


def worse(old: Counts, new: Counts, limits: Limits, certainty: Certainty) -> tuple[str, ...]:
    """Why the new version is worse, a sentence each; empty when nothing is sure."""
    return (
        *_more_errors(old, new, limits, certainty),
        *(text for part in QUANTILES for text in _slower(old, new, part, limits, certainty)),
        *_other_answers(old, new, limits, certainty),
    )


def _more_errors(old: Counts, new: Counts, limits: Limits, certainty: Certainty) -> Iterator[str]:
    least = rate_increase(old.errors, old.requests, new.errors, new.requests, certainty.z)
    if least > limits.error_rate_increase:
        yield (
            f"{new.error_rate:.1%} of {new.requests} requests failed ({_codes(new)}), "
            f"of the old version's {old.requests} {old.error_rate:.1%}: "
            f"an increase of at least {100 * least:.1f} points, {100 * limits.error_rate_increase:g} are allowed"
        )


def _slower(old: Counts, new: Counts, part: float, limits: Limits, certainty: Certainty) -> Iterator[str]:
    most, least = slowest(old, part, certainty.chance), fastest(new, part, certainty.chance)
    if most and least is not None and least > limits.latency_ratio * most:
        yield (
            f"p{100 * part:g} is {_ms(new.quantile(part))}, of the old version {_ms(old.quantile(part))}: "
            f"at least {least / most:.1f} times as long, {limits.latency_ratio:g} times are allowed"
        )


def _other_answers(old: Counts, new: Counts, limits: Limits, certainty: Certainty) -> Iterator[str]:
    shift = distance(old.answers, new.answers)
    if shift is None:
        return
    least = shift - _by_chance(old, new, certainty.chance)
    if least > limits.answer_shift:
        value, before, now = _largest_change(old.answers, new.answers)
        yield (
            f"its answers differ: {shift:.0%} of them moved ('{value}' went from {before:.0%} to {now:.0%}), "
            f"surely {least:.0%}, {limits.answer_shift:.0%} are allowed"
        )


def wilson(successes: int, n: int, z: float) -> tuple[float, float]:
    """Limits of a proportion (Wilson, JASA 22, 1927); 0 and 1 for no observation."""
    if not n:
        return 0.0, 1.0
    share, z2 = successes / n, z * z
    middle = share + z2 / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n))


def rate_increase(old_errors: int, old_n: int, new_errors: int, new_n: int, z: float) -> float:
    """The least by which the new rate is above the old, at that certainty; below 0 when it may be lower."""
    if not (old_n and new_n):
        return -1.0
    old_rate, new_rate = old_errors / old_n, new_errors / new_n
    lower, upper = wilson(new_errors, new_n, z)[0], wilson(old_errors, old_n, z)[1]
    return new_rate - old_rate - math.hypot(new_rate - lower, upper - old_rate)


def slowest(counts: Counts, part: float, chance: float) -> float | None:
    """What the true quantile is surely not above; None when there are too few requests to say."""
    n = sum(counts.seconds.values())
    above = n - rare_count(n, part, chance)  # so few lie above the true quantile only by that chance
    return counts.at_rank(n - above) if above >= 0 and n else None


def fastest(counts: Counts, part: float, chance: float) -> float | None:
    """What the true quantile is surely not below; None when there are too few requests to say."""
    n = sum(counts.seconds.values())
    above = rare_count(n, 1 - part, chance)
    return counts.at_rank(n - above) if n and above <= n else None


@lru_cache(maxsize=4096)  # asked for the same sizes at every look
def rare_count(n: int, share: float, chance: float) -> int:
    """The smallest k such that k or more of n, each with probability `share`, happen with at most `chance`.

    n + 1 when even all n are not that rare.
    """
    if not n:
        return 1
    mode = min(n, int((n + 1) * share))
    at = math.lgamma(n + 1) - math.lgamma(mode + 1) - math.lgamma(n - mode + 1)
    probability = math.exp(at + mode * math.log(share) + (n - mode) * math.log1p(-share))
    tail = []
    for k in range(mode, n + 1):
        tail.append(probability)
        probability *= (n - k) / (k + 1) * share / (1 - share)
        if probability < chance * 1e-9:
            break
    total = 0.0
    for above, probability in enumerate(reversed(tail)):
        total += probability
        if total > chance:
            return mode + len(tail) - above
    return mode


def distance(old: Counter[str], new: Counter[str]) -> float | None:
    """Total variation distance of two counts, 0 to 1; None without any on one side."""
    old_n, new_n = old.total(), new.total()
    if not (old_n and new_n):
        return None
    return sum(abs(old[value] / old_n - new[value] / new_n) for value in old.keys() | new.keys()) / 2


def _by_chance(old: Counts, new: Counts, chance: float) -> float:
    """How far apart two samples of the same distribution are at most.

    Rows of one request are not independent, so it is requests that count as observations.
    """
    values = len(old.answers.keys() | new.answers.keys())
    sizes = [min(side.answers.total(), side.codes["OK"] or side.answers.total()) for side in (old, new)]
    return sum(math.sqrt((values - 1) / n) / 2 + math.sqrt(math.log(1 / chance) / (2 * n)) for n in sizes)


def _largest_change(old: Counter[str], new: Counter[str]) -> tuple[str, float, float]:
    shares = {value: (old[value] / old.total(), new[value] / new.total()) for value in sorted(old.keys() | new.keys())}
    value = max(shares, key=lambda each: abs(shares[each][1] - shares[each][0]))
    return value, *shares[value]


def _codes(counts: Counts) -> str:
    failed = [(code, count) for code, count in counts.codes.most_common() if code not in ("OK", "CANCELLED") and count]
    return ", ".join(f"{code} {count}" for code, count in failed)


def _ms(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{1000 * seconds:.3g} ms"
