"""Simulated eviction policies: Belady is optimal, LRU evicts the least recently used, ours is the controller's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.placement.caches import Belady, Lru, Ours, hit_rate
from benchmarks.placement.traces import Trace
from controller.placement.settings import PlacementSettings

requests = st.lists(st.integers(0, 9), min_size=2, max_size=200)
places = st.integers(1, 6)


def trace_of(models: list[int], gap_s: float = 1.0) -> Trace:
    return Trace(models, [gap_s * at for at in range(len(models))])


def naive_lru(models: list[int], places: int) -> list[bool]:
    """A list, the least recently used first."""
    loaded: list[int] = []
    hits = []
    for model in models:
        hits.append(model in loaded)
        loaded = [each for each in loaded if each != model][-(places - 1) :] if places > 1 else []
        loaded.append(model)
    return hits


def most_hits(models: list[int], places: int) -> int:
    """Try every eviction: the loaded sets that can be reached, each with its largest number of hits."""
    reached: dict[frozenset[int], int] = {frozenset(): 0}
    for model in models:
        after: dict[frozenset[int], int] = {}
        for loaded, hits in reached.items():
            if model in loaded:
                ways = [(loaded, hits + 1)]
            elif len(loaded) < places:
                ways = [(loaded | {model}, hits)]
            else:
                ways = [(loaded - {victim} | {model}, hits) for victim in loaded]
            for way, count in ways:
                after[way] = max(after.get(way, 0), count)
        reached = after
    return max(reached.values())


@given(requests, places)
def test_least_recently_used_is_what_a_plain_list_does(models: list[int], places: int) -> None:
    cache = Lru(places)
    assert [cache.request(model, 0.0) for model in models] == naive_lru(models, places)


@given(requests, places)
def test_ours_without_a_half_life_is_least_recently_used(models: list[int], places: int) -> None:
    trace, ours, lru = trace_of(models), Ours(places, half_life_s=0), Lru(places)
    for model, now_s in zip(trace.models, trace.times_s, strict=True):
        assert ours.request(model, now_s) == lru.request(model, now_s)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 4))
def test_no_choice_of_victims_has_more_hits_than_belady(models: list[int], places: int) -> None:
    cache = Belady(places, models)
    assert sum(cache.request(model, 0.0) for model in models) == most_hits(models, places)


@given(requests, places, st.sampled_from([0.0, 5.0, 60.0, 3600.0]), st.sampled_from([0.0, 10.0]))
def test_belady_has_at_least_the_hits_of_the_others(
    models: list[int], places: int, half_life_s: float, per_place: float
) -> None:
    trace = trace_of(models)
    best = hit_rate(Belady(places, models), trace, 0)
    assert hit_rate(Lru(places), trace, 0) <= best
    assert hit_rate(Ours(places, half_life_s, requests_per_slot=per_place), trace, 0) <= best


@given(requests)
def test_with_a_slot_for_each_only_the_first_request_of_a_model_misses(models: list[int]) -> None:
    trace = trace_of(models)
    expected = 1 - len(set(models)) / len(models)
    for cache in (Lru(10), Ours(10, 300), Belady(10, models)):
        assert hit_rate(cache, trace, 0) == pytest.approx(expected)


def test_popular_models_stay_loaded_through_a_sequence_of_rare_ones() -> None:
    models = [0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 0, 1]
    ours, lru = Ours(3, half_life_s=300), Lru(3)
    trace = trace_of(models)
    assert [ours.request(model, at) for model, at in zip(models, trace.times_s, strict=True)][-2:] == [True, True]
    assert [lru.request(model, at) for model, at in zip(models, trace.times_s, strict=True)][-2:] == [False, False]


def test_what_is_idle_for_too_long_is_a_miss() -> None:
    cache = Ours(3, half_life_s=300, idle_ttl_s=900)
    assert [cache.request(1, now_s) for now_s in (0, 899, 1799, 1800)] == [False, True, False, True]


def test_headroom_is_not_used() -> None:
    cache = Ours(3, half_life_s=300, headroom=1)
    assert [cache.request(model, at) for at, model in enumerate([1, 2, 3, 2, 1])] == [False, False, False, True, False]


def test_a_load_waits_when_the_slots_of_the_victims_are_not_free_yet() -> None:
    prompt, late = Ours(2, half_life_s=300, headroom=1, turn_s=0.5), Ours(2, half_life_s=300, headroom=1, turn_s=3.0)
    for cache in (prompt, late):
        for at, model in enumerate([1, 2, 3, 4]):
            cache.request(model, float(at))
    assert (prompt.loads, prompt.waited) == (4, 0)
    assert (late.loads, late.waited) == (4, 2)


def test_slots_that_follow_the_loads_are_released_when_loads_are_few() -> None:
    cache = Ours(
        10, half_life_s=300, settings=PlacementSettings(headroom_percent=0, headroom_max_percent=50), turn_s=2.0
    )
    for number in range(40):
        cache.request(number, number / 2)
    assert len(cache.loaded) == 5
    for number in range(40):
        cache.request(number, 20.0 + 60.0 * number)
    assert len(cache.loaded) == 8


def test_with_requests_per_slot_a_quiet_night_does_not_decay_popularity() -> None:
    """After three requests in the evening and one each in the morning, the most popular model is the same."""
    evening, morning = [(0, 0.0), (0, 1.0), (0, 2.0)], [(1, 50_000.0), (2, 50_001.0), (0, 50_002.0)]
    forgetful, paced = Ours(2, 300), Ours(2, 300, requests_per_slot=10)
    for cache, expected in ((forgetful, False), (paced, True)):
        assert [cache.request(model, at) for model, at in evening + morning][-1] is expected


def test_requests_before_the_warm_up_are_not_counted() -> None:
    assert hit_rate(Lru(2), trace_of([1, 2, 1, 2]), 2) == 1.0
    assert hit_rate(Lru(2), trace_of([1, 2, 1, 2]), 0) == 0.5
