"""Statistical tests of whether the new version is worse than the old one. Pure; each test is one-sided.

- Error rate: the lower limit of the difference of two proportions, made of two Wilson score intervals (Newcombe,
  "Interval estimation for the difference between independent proportions", Statistics in Medicine 17, 1998, method
  10). It holds with few requests and with no error at all, where the normal test does not.
- Latency: limits of a quantile without assuming a distribution (Conover, "Practical Nonparametric Statistics", 1999,
  section 3.2): how many of n requests may lie above the true quantile by chance is binomial.
- Answers: total variation distance, the share of answers that would have to change for the two to agree. For
  equal versions it is at most sqrt((k - 1) / n) / 2 on average, and exceeds that by t with probability exp(-2 n t^2)
  (Canonne, "A short note on learning discrete distributions", arXiv:2002.11457).

The chance of calling an equal version worse is at most about `Confidence.chance` for each test, and there are four. A
step is analysed once a second, so an interim analysis needs a much smaller chance (Haybittle and Peto's rule: Peto et
al., British Journal of Cancer 34, 1976, section 10).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from triptych_cli.rollout.metrics.counts import Counts


@dataclass(frozen=True)
class Tolerances:
    """Margins by which the new version may be worse; ratios and shares, not percents."""

    error_rate_increase: float = 0.01
    latency_ratio: float = 1.5
    answer_shift: float = 0.2
    min_requests: int = 50


@dataclass(frozen=True)
class Confidence:
    """The chance of calling an equal version worse; `z` is the normal quantile of the same chance."""

    chance: float
    z: float


FINAL_ANALYSIS = Confidence(0.0005, 3.2905)
INTERIM_ANALYSIS = Confidence(0.00001, 4.2649)

QUANTILES = (0.5, 0.99)


def find_regressions(old: Counts, new: Counts, tolerances: Tolerances, confidence: Confidence) -> tuple[str, ...]:
    """A sentence for each respect in which the new version is worse; empty if none is certain."""
    return (
        *_error_rate_regressions(old, new, tolerances, confidence),
        *(text for quantile in QUANTILES for text in _latency_regressions(old, new, quantile, tolerances, confidence)),
        *_answer_regressions(old, new, tolerances, confidence),
    )


def _error_rate_regressions(old: Counts, new: Counts, tolerances: Tolerances, confidence: Confidence) -> Iterator[str]:
    least = rate_increase(old.errors, old.requests, new.errors, new.requests, confidence.z)
    if least > tolerances.error_rate_increase:
        yield (
            f"{new.error_rate:.1%} of {new.requests} requests failed ({_codes(new)}), "
            f"of the old version's {old.requests} {old.error_rate:.1%}: "
            f"an increase of at least {100 * least:.1f} points, {100 * tolerances.error_rate_increase:g} are allowed"
        )


def _latency_regressions(
    old: Counts, new: Counts, quantile: float, tolerances: Tolerances, confidence: Confidence
) -> Iterator[str]:
    most, least = (
        quantile_upper_limit(old, quantile, confidence.chance),
        quantile_lower_limit(new, quantile, confidence.chance),
    )
    if most and least is not None and least > tolerances.latency_ratio * most:
        yield (
            f"p{100 * quantile:g} is {_ms(new.quantile(quantile))}, of the old version {_ms(old.quantile(quantile))}: "
            f"at least {least / most:.1f} times as long, {tolerances.latency_ratio:g} times are allowed"
        )


def _answer_regressions(old: Counts, new: Counts, tolerances: Tolerances, confidence: Confidence) -> Iterator[str]:
    shift = total_variation_distance(old.answers, new.answers)
    if shift is None:
        return
    least = shift - _chance_distance(old, new, confidence.chance)
    if least > tolerances.answer_shift:
        value, before, now = _largest_change(old.answers, new.answers)
        yield (
            f"its answers differ: {shift:.0%} of them moved ('{value}' went from {before:.0%} to {now:.0%}), "
            f"surely {least:.0%}, {tolerances.answer_shift:.0%} are allowed"
        )


def wilson(successes: int, n: int, z: float) -> tuple[float, float]:
    """Tolerances of a proportion (Wilson, JASA 22, 1927); 0 and 1 for no observation."""
    if not n:
        return 0.0, 1.0
    share, z2 = successes / n, z * z
    middle = share + z2 / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n))


def rate_increase(old_errors: int, old_n: int, new_errors: int, new_n: int, z: float) -> float:
    """Lower confidence limit of the new rate minus the old one; below 0 if the new one may be lower."""
    if not (old_n and new_n):
        return -1.0
    old_rate, new_rate = old_errors / old_n, new_errors / new_n
    lower, upper = wilson(new_errors, new_n, z)[0], wilson(old_errors, old_n, z)[1]
    return new_rate - old_rate - math.hypot(new_rate - lower, upper - old_rate)


def quantile_upper_limit(counts: Counts, quantile: float, chance: float) -> float | None:
    """Upper confidence limit of a latency quantile in seconds; None with too few requests."""
    n = sum(counts.latency_buckets.values())
    above = n - binomial_tail_count(n, quantile, chance)  # as few lie above the true quantile with at most that chance
    return counts.at_rank(n - above) if above >= 0 and n else None


def quantile_lower_limit(counts: Counts, quantile: float, chance: float) -> float | None:
    """Lower confidence limit of a latency quantile in seconds; None with too few requests."""
    n = sum(counts.latency_buckets.values())
    above = binomial_tail_count(n, 1 - quantile, chance)
    return counts.at_rank(n - above) if n and above <= n else None


@lru_cache(maxsize=4096)  # each analysis repeats the sizes
def binomial_tail_count(n: int, share: float, chance: float) -> int:
    """The smallest k such that k or more of n, each with probability `share`, happen with at most `chance`.

    n + 1 if even n of n are not that rare.
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


def total_variation_distance(old: Counter[str], new: Counter[str]) -> float | None:
    """Total variation distance of two histograms, 0 to 1; None if one is empty."""
    old_n, new_n = old.total(), new.total()
    if not (old_n and new_n):
        return None
    return sum(abs(old[value] / old_n - new[value] / new_n) for value in old.keys() | new.keys()) / 2


def _chance_distance(old: Counts, new: Counts, chance: float) -> float:
    """Upper limit of the distance between two samples of one distribution.

    Rows of one request are not independent, so an observation is a request.
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
