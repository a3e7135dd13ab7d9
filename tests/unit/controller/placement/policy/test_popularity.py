"""Popularity of versions: the order of their eviction, and the rate that `top` shows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.placement.policy.popularity import DECAYED, Popularity, VersionKey

A, B, C = ("a", 1), ("b", 1), ("c", 1)

origins = st.sampled_from([0.0, -1e6, 1e-9, 12.5, 3e9])
keys = st.sampled_from([A, B, C])
# What happened: a version, how many requests were seen, and the seconds since what happened before.
histories = st.lists(st.tuples(keys, st.integers(1, 1000), st.integers(0, 600)), min_size=1, max_size=30)


def replay(
    history: list[tuple[VersionKey, int, int]], half_life_s: float, origin_s: float = 0.0
) -> tuple[Popularity, float]:
    popularity, now_s = Popularity(half_life_s), origin_s
    for key, requests, later_s in history:
        now_s += later_s
        popularity.record(key, requests, now_s)
    return popularity, now_s


def coldest_first(popularity: Popularity, now_s: float) -> list[VersionKey]:
    return sorted([A, B, C], key=lambda key: coldness(popularity, key, now_s))


def coldness(popularity: Popularity, key: VersionKey, now_s: float) -> tuple[float, float]:
    """Return the scores at that time: they decay when something is recorded."""
    popularity.record(("clock", 1), 0, now_s)
    return popularity.coldness(key)


def test_a_request_counts_half_after_a_half_life() -> None:
    popularity = Popularity(half_life_s=300)
    popularity.record(A, 8, 0)
    assert [coldness(popularity, A, now_s)[0] for now_s in (0, 300, 600, 900)] == [8, 4, 2, 1]


def test_a_burst_of_rare_ones_does_not_push_out_what_is_popular() -> None:
    popularity = Popularity(half_life_s=300)
    popularity.record(A, 100, 0)
    popularity.record(B, 1, 60)
    assert coldest_first(popularity, 60)[1:] == [B, A]


def test_what_was_popular_long_ago_is_not_for_ever() -> None:
    popularity = Popularity(half_life_s=300)
    popularity.record(A, 100, 0)
    popularity.record(B, 1, 3000)
    assert coldest_first(popularity, 3000)[1:] == [A, B]


def test_what_was_never_requested_is_evicted_before_what_was_seen_without_a_request() -> None:
    popularity = Popularity(half_life_s=300)
    popularity.record(B, 0, 5)
    popularity.record(A, 1, 5)
    assert coldest_first(popularity, 5) == [C, B, A]


@given(histories, origins)
def test_without_a_half_life_the_order_is_that_of_the_last_use(
    history: list[tuple[VersionKey, int, int]], origin_s: float
) -> None:
    popularity, now_s = replay(history, 0, origin_s)
    last, at_s = dict.fromkeys([A, B, C], -math.inf), origin_s
    for key, _, later_s in history:
        at_s += later_s
        last[key] = at_s
    assert [last[key] for key in coldest_first(popularity, now_s)] == sorted(last.values())


@given(histories, st.integers(10, 1000))
def test_the_order_is_that_of_the_decayed_counts(history: list[tuple[VersionKey, int, int]], half_life_s: int) -> None:
    popularity, now_s = replay(history, half_life_s)
    scores, at_s = dict.fromkeys([A, B, C], 0.0), 0
    for key, requests, later_s in history:
        at_s += later_s
        scores[key] += requests * 2 ** ((at_s - now_s) / half_life_s)
    for key, score in scores.items():
        assert coldness(popularity, key, now_s)[0] == pytest.approx(score)


@given(histories, st.sampled_from([0, 300]), st.integers(-(10**9), 10**9))
def test_the_origin_of_the_clock_does_not_matter(
    history: list[tuple[VersionKey, int, int]], half_life_s: int, origin_s: int
) -> None:
    here, now_s = replay(history, half_life_s)
    there, then_s = replay(history, half_life_s, origin_s)
    assert coldest_first(here, now_s) == coldest_first(there, then_s)
    for key in (A, B, C):
        assert coldness(here, key, now_s)[0] == coldness(there, key, then_s)[0]
        assert here.idle_s(key, now_s) == there.idle_s(key, then_s)


@given(histories, st.integers(1, 10**7))
def test_waiting_alone_changes_no_order(history: list[tuple[VersionKey, int, int]], wait_s: int) -> None:
    """The order stays until counts are too small to be distinguished; then the last use decides."""
    popularity, now_s = replay(history, 300)
    scores = {key: coldness(popularity, key, now_s + min(wait_s, 3000))[0] for key in (A, B, C)}
    for one in scores:
        for other in scores:
            if scores[one] < scores[other] * 0.999:
                assert coldness(popularity, one, now_s)[0] < coldness(popularity, other, now_s)[0]
    assert all(coldness(popularity, key, now_s + wait_s)[0] >= 0 for key in scores)


def test_with_little_traffic_a_request_counts_half_after_so_many_requests_per_slot() -> None:
    popularity = Popularity(half_life_s=300, half_life_requests=10)
    popularity.loaded_versions = 5
    popularity.record(A, 8, 0)
    popularity.record(B, 1, 10_000)  # a quiet night
    assert popularity.coldness(A)[0] == pytest.approx(8, rel=0.05)
    for second in range(49):
        popularity.record(B, 1, 20_000 + 100 * second)
    assert popularity.coldness(A)[0] == pytest.approx(4)


def test_with_much_traffic_it_counts_half_after_the_time() -> None:
    popularity = Popularity(half_life_s=300, half_life_requests=10)
    popularity.loaded_versions = 5
    popularity.record(A, 8, 0)
    for second in range(1, 301):
        popularity.record(B, 1000, second)
        popularity.record(C, 1000, second)
    assert popularity.coldness(A)[0] == pytest.approx(4)


@given(st.floats(0.1, 50), st.sampled_from([0.0, 300.0]))
def test_the_rate_of_steady_traffic_is_its_requests_per_second(rate: float, half_life_s: float) -> None:
    popularity, step_s = Popularity(half_life_s, 10), 0.5
    for scan in range(2000):
        popularity.record(A, rate * step_s, scan * step_s)
    assert popularity.requests_per_s(A, 1999 * step_s) == pytest.approx(rate, rel=0.01)


def test_there_is_no_rate_of_what_was_never_used() -> None:
    assert Popularity(300).requests_per_s(A, 10) == 0


def test_idle_is_the_time_since_the_last_request() -> None:
    popularity = Popularity(300)
    popularity.record(A, 1, 100)
    assert (popularity.idle_s(A, 130), popularity.idle_s(B, 130)) == (30, math.inf)


def test_counts_that_matter_to_no_decision_are_dropped_and_no_others() -> None:
    popularity = Popularity(half_life_s=10)
    popularity.record(A, 1, 0)
    popularity.record(B, 1, 1)
    popularity.record(C, 1, 10 * DECAYED)
    popularity.prune(idle_s=100, now_s=10 * DECAYED)
    assert (popularity.idle_s(A, 10 * DECAYED), popularity.idle_s(B, 10 * DECAYED)) == (math.inf, 10 * DECAYED - 1)
    popularity.record(C, 1, 9_000)
    popularity.prune(idle_s=10_000, now_s=9_000)
    assert popularity.idle_s(B, 9_000) == 8_999


@given(histories, st.sampled_from([0, 30, 300]), st.sampled_from([0, 30, 900]))
def test_dropped_counts_never_change_the_order_of_eviction(
    history: list[tuple[VersionKey, int, int]], half_life_s: int, idle_ttl_s: int
) -> None:
    """Versions that may still be loaded: all, if the idle time-to-live is 0, which means none."""
    popularity, now_s = replay(history, half_life_s)
    loaded = [key for key in (A, B, C) if not idle_ttl_s or popularity.idle_s(key, now_s) < idle_ttl_s]
    before = sorted(loaded, key=lambda key: coldness(popularity, key, now_s))
    popularity.prune(idle_ttl_s, now_s)
    assert sorted(loaded, key=lambda key: coldness(popularity, key, now_s)) == before
