"""Analysis of a rollout: equal versions are rarely rolled back, clearly worse ones always, by any number of calls."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.datatypes import Array
from triptych.telemetry.metrics.version_metrics import SECONDS_BUCKETS
from triptych_cli.rollout.analysis import (
    FINAL_ANALYSIS,
    INTERIM_ANALYSIS,
    Tolerances,
    binomial_tail_count,
    find_regressions,
    quantile_lower_limit,
    quantile_upper_limit,
    rate_increase,
    total_variation_distance,
    wilson,
)
from triptych_cli.rollout.metrics.counts import Counts

EDGES = (*SECONDS_BUCKETS, math.inf)
NO_MARGIN = Tolerances(error_rate_increase=0.0, latency_ratio=1.0, answer_shift=0.0)


def counted(seconds: Sequence[float] | Array, errors: int = 0, answers: Sequence[int] | Array = ()) -> Counts:
    """Counts of these requests, as the stages' metrics have them."""
    buckets = np.bincount(np.searchsorted(EDGES, seconds), minlength=len(EDGES))
    values, rows = np.unique(np.asarray(answers, int), return_counts=True)
    codes = Counter({"OK": len(seconds), "INTERNAL": errors})
    answered = Counter(dict(zip(map(str, values), rows.tolist(), strict=True)))
    return Counts(codes, Counter(dict(zip(EDGES, buckets.tolist(), strict=True))), answered)


def draw(random: np.random.Generator, n: int, errors: float = 0.01, slower: float = 1.0, shift: int = 0) -> Counts:
    """n requests of a version: log-normal around 20 ms, a few errors, answers that are mostly small numbers."""
    failed = int(random.binomial(n, errors))
    seconds = random.lognormal(math.log(0.02), 0.5, n - failed) * slower
    answers = np.minimum(random.geometric(0.4, n - failed), 9) + shift
    return counted(seconds, failed, answers)


def taken_back(random: np.random.Generator, limits: Tolerances, share: float, **new: float) -> bool:
    """One step of 1,000 requests, analysed four times in between and once at its end."""
    old_sum, new_sum = Counts(), Counts()
    for look in range(5):
        old_sum += draw(random, round(200 * (1 - share)))
        new_sum += draw(random, round(200 * share), **new)  # type: ignore[arg-type]
        if find_regressions(old_sum, new_sum, limits, FINAL_ANALYSIS if look == 4 else INTERIM_ANALYSIS):
            return True
    return False


@pytest.mark.parametrize("limits", [Tolerances(), NO_MARGIN], ids=["as set", "without any margin"])
def test_of_a_thousand_rollouts_of_an_equal_version_hardly_one_is_taken_back(limits: Tolerances) -> None:
    random = np.random.default_rng(4)
    back = sum(any(taken_back(random, limits, share) for share in (0.05, 0.25, 0.5)) for _ in range(1000))
    # Three steps, four tests each: 12 * 0.0005 at most by the rule of chance, and the looks on the way.
    assert back <= 10


@pytest.mark.parametrize(
    "fault", [{"errors": 0.3}, {"slower": 4.0}, {"shift": 5}], ids=["fails", "is slow", "answers otherwise"]
)
def test_of_a_hundred_rollouts_of_a_clearly_worse_version_each_is_taken_back(fault: dict[str, float]) -> None:
    random = np.random.default_rng(5)
    steps = (0.05, 0.25, 0.5)
    assert all(any(taken_back(random, Tolerances(), share, **fault) for share in steps) for _ in range(100))


def test_fifty_requests_of_which_ten_fail_are_enough() -> None:
    (reason,) = find_regressions(counted([0.02] * 950), counted([0.02] * 40, errors=10), Tolerances(), FINAL_ANALYSIS)
    assert reason.startswith("20.0% of 50 requests failed (INTERNAL 10), of the old version's 950 0.0%")


def test_a_single_error_in_few_requests_proves_nothing() -> None:
    assert not find_regressions(counted([0.02] * 950), counted([0.02] * 19, errors=1), Tolerances(), FINAL_ANALYSIS)


def test_a_version_that_is_within_the_limits_is_not_worse() -> None:
    old, new = counted([0.02] * 5000, errors=0), counted([0.02] * 4960, errors=40)
    assert not find_regressions(old, new, Tolerances(error_rate_increase=0.01), FINAL_ANALYSIS)
    assert find_regressions(old, new, Tolerances(error_rate_increase=0.001), FINAL_ANALYSIS)


def test_a_long_tail_is_found_although_the_median_is_the_same() -> None:
    old, new = counted([0.01] * 2000), counted([0.01] * 900 + [1.0] * 100)
    (reason,) = find_regressions(old, new, Tolerances(), FINAL_ANALYSIS)
    assert reason.startswith("p99 is")


def test_a_faster_version_with_fewer_errors_is_not_worse() -> None:
    assert not find_regressions(counted([0.1] * 900, errors=100), counted([0.01] * 1000), NO_MARGIN, INTERIM_ANALYSIS)


def test_what_the_caller_gave_up_counts_for_nobody() -> None:
    new = counted([0.02] * 50)
    new.codes["CANCELLED"] = 500
    assert (new.requests, new.errors) == (50, 0)


def test_nothing_is_worse_than_nothing() -> None:
    assert not find_regressions(Counts(), Counts(), Tolerances(), FINAL_ANALYSIS)
    assert not find_regressions(Counts(), counted([9.0] * 100, errors=50), Tolerances(), FINAL_ANALYSIS)


def test_permuted_answers_are_named_with_the_value_that_moved_most() -> None:
    old, new = counted([0.02] * 900, answers=[1] * 900), counted([0.02] * 900, answers=[1] * 300 + [7] * 600)
    (reason,) = find_regressions(old, new, Tolerances(), FINAL_ANALYSIS)
    assert "67% of them moved ('1' went from 100% to 33%)" in reason
    assert not find_regressions(old, new, Tolerances(answer_shift=1.0), FINAL_ANALYSIS)


@given(
    n=st.integers(1, 400), share=st.sampled_from([0.01, 0.1, 0.5, 0.9, 0.99]), chance=st.sampled_from([0.05, 0.0005])
)
def test_a_rare_count_is_the_smallest_that_is_rare(n: int, share: float, chance: float) -> None:
    def tail(k: int) -> float:
        terms = (math.comb(n, j) * share**j * (1 - share) ** (n - j) for j in range(k, n + 1))
        return math.fsum(terms)

    k = binomial_tail_count(n, share, chance)
    assert tail(k) <= chance * (1 + 1e-6)
    assert tail(k - 1) > chance * (1 - 1e-6)


def test_wilson_limits_are_those_of_the_textbook() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
    assert wilson(81, 263, 1.959964) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20, 1.959964) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_the_difference_of_rates_is_that_of_the_textbook() -> None:
    # Newcombe 1998, table II, example (a): 56/70 - 48/80 lies between 0.0524 and 0.3339 by method 10
    assert rate_increase(48, 80, 56, 70, 1.959964) == pytest.approx(0.0524, abs=5e-5)


@given(old=st.tuples(st.integers(0, 500), st.integers(0, 500)), new=st.tuples(st.integers(0, 500), st.integers(0, 500)))
def test_an_increase_is_never_surer_than_what_was_seen(old: tuple[int, int], new: tuple[int, int]) -> None:
    # old=(33, 0), new=(0, 1) gives -1 less one part in 10^16
    (old_errors, old_good), (new_errors, new_good) = old, new
    old_n, new_n = old_errors + old_good, new_errors + new_good
    least = rate_increase(old_errors, old_n, new_errors, new_n, FINAL_ANALYSIS.z)
    if old_n and new_n:
        assert -1.0 - 1e-12 <= least <= new_errors / new_n - old_errors / old_n + 1e-12
    else:
        assert least < 0


@given(st.lists(st.floats(0.0001, 20), min_size=1, max_size=300), st.sampled_from([0.5, 0.99]))
def test_the_limits_of_a_quantile_lie_on_both_sides_of_it(seconds: list[float], part: float) -> None:
    counts = counted(seconds)
    middle = counts.quantile(part)
    low, high = quantile_lower_limit(counts, part, 0.0005), quantile_upper_limit(counts, part, 0.0005)
    assert middle is not None
    assert low is None or low <= middle
    assert high is None or high >= middle


@given(st.dictionaries(st.text("ab", max_size=2), st.integers(1, 50), min_size=1))
def test_the_same_answers_are_at_no_distance(answers: dict[str, int]) -> None:
    doubled = Counter({value: 2 * count for value, count in answers.items()})
    assert total_variation_distance(Counter(answers), doubled) == pytest.approx(0.0, abs=1e-12)
    assert total_variation_distance(Counter(answers), Counter(other=1)) == pytest.approx(1.0)
    assert total_variation_distance(Counter(answers), Counter()) is None
