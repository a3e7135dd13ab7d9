"""Victims of an eviction: the coldest, no more than needed, and only those that may be evicted."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.placement.policy.eviction import Candidate, Capacity, choose_victims

waits = st.one_of(st.just(0.0), st.floats(0.1, 60), st.just(math.inf))
candidates = st.lists(st.tuples(st.integers(0, 50), waits, st.integers(0, 5)), max_size=9).map(
    lambda rows: [Candidate((f"m{i}", 1), size, wait, (cold, 0.0)) for i, (size, wait, cold) in enumerate(rows)]
)
capacities = st.builds(Capacity, st.integers(0, 6), st.integers(0, 200))
budgets = st.builds(Capacity, st.integers(0, 6), st.integers(0, 200))


def occupant(name: str, size: int, cold: float, evictable_in_s: float = 0.0) -> Candidate:
    return Candidate((name, 1), size, evictable_in_s, (cold, 0.0))


def freed(chosen: list[Candidate]) -> Capacity:
    return Capacity(len(chosen), sum(each.bytes for each in chosen))


def enough(chosen: list[Candidate], deficit: Capacity) -> bool:
    capacity = freed(chosen)
    return capacity.models >= deficit.models and capacity.bytes >= deficit.bytes


def test_the_coldest_are_evicted_first() -> None:
    there = [occupant("warm", 10, 3), occupant("cold", 10, 1), occupant("hot", 10, 9)]
    assert choose_victims(Capacity(models=2), there) == [("cold", 1), ("warm", 1)]


def test_the_last_use_decides_between_equal_counts() -> None:
    there = [Candidate(("late", 1), 1, 0, (0.0, 9.0)), Candidate(("early", 1), 1, 0, (0.0, -math.inf))]
    assert choose_victims(Capacity(models=1), there) == [("early", 1)]


def test_a_large_one_is_evicted_in_place_of_smaller_and_colder_ones_that_do_not_help() -> None:
    there = [occupant("tiny", 1, 0), occupant("large", 100, 1), occupant("hot", 100, 2)]
    assert choose_victims(Capacity(bytes=90), there) == [("large", 1)]


def test_bytes_and_slots_can_both_lack_and_then_the_warmer_of_two_stays() -> None:
    there = [occupant("a", 10, 0), occupant("b", 10, 1), occupant("c", 80, 2)]
    assert choose_victims(Capacity(models=2, bytes=85), there) == [("a", 1), ("c", 1)]


def test_nothing_is_evicted_when_nothing_lacks() -> None:
    assert choose_victims(Capacity(), [occupant("a", 10, 0)]) == []
    assert choose_victims(Capacity(), []) == []


def test_the_wait_is_that_of_the_last_one_that_is_needed() -> None:
    there = [occupant("now", 10, 9), occupant("soon", 10, 0, 4.0), occupant("later", 10, 0, 8.0)]
    assert choose_victims(Capacity(models=2), there) == 4.0
    assert choose_victims(Capacity(bytes=30), there) == 8.0


def test_what_stays_for_ever_makes_the_wait_infinite() -> None:
    there = [occupant("pinned", 100, 0, math.inf), occupant("small", 10, 0)]
    assert choose_victims(Capacity(bytes=50), there) == math.inf
    assert choose_victims(Capacity(models=1), []) == math.inf


@given(capacities, candidates)
def test_victims_free_the_deficit_are_all_needed_and_may_be_evicted(deficit: Capacity, there: list[Candidate]) -> None:
    found = choose_victims(deficit, there)
    if isinstance(found, float):
        return
    by_key = {each.key: each for each in there}
    chosen = [by_key[key] for key in found]
    assert len(set(found)) == len(found)
    assert all(each.evictable_in_s == 0 for each in chosen)
    assert enough(chosen, deficit)
    for each in chosen:
        assert not enough([other for other in chosen if other is not each], deficit)


@given(capacities, candidates)
def test_no_colder_model_could_replace_the_warmer_victims(deficit: Capacity, there: list[Candidate]) -> None:
    """The warmest victim is needed: all colder candidates together would not free enough."""
    found = choose_victims(deficit, there)
    if isinstance(found, float) or not found:
        return
    warmest = max(each.coldness for each in there if each.key in found)
    colder = [each for each in there if each.evictable_in_s == 0 and each.coldness < warmest]
    assert not enough(colder, deficit)


@given(capacities, candidates)
def test_the_wait_is_the_shortest_after_which_enough_may_be_evicted(deficit: Capacity, there: list[Candidate]) -> None:
    found = choose_victims(deficit, there)
    moments = sorted({0.0, *(each.evictable_in_s for each in there if math.isfinite(each.evictable_in_s))})
    enough_at = next((at for at in moments if enough([e for e in there if e.evictable_in_s <= at], deficit)), math.inf)
    assert (found if isinstance(found, float) else 0.0) == enough_at


@given(st.integers(0, 6), candidates)
def test_for_slots_alone_just_as_many_are_evicted_and_these_are_the_coldest(
    models: int, there: list[Candidate]
) -> None:
    found = choose_victims(Capacity(models=models), there)
    if not isinstance(found, float):
        coldest = sorted(each.coldness for each in there if each.evictable_in_s == 0)[:models]
        assert sorted(each.coldness for each in there if each.key in found) == coldest


@given(capacities, budgets)
def test_the_deficit_is_what_must_be_evicted_to_be_within_the_budget(taken: Capacity, budget: Capacity) -> None:
    deficit = taken.excess_over(budget)
    left = Capacity(taken.models - deficit.models, taken.bytes - deficit.bytes)
    assert left.excess_over(budget).is_zero
    assert deficit.is_zero or left.models == budget.models or left.bytes == budget.bytes


def test_a_budget_of_0_is_no_limit() -> None:
    assert Capacity(10**6, 10**15).excess_over(Capacity()).is_zero
    assert Capacity(3, 10**15).excess_over(Capacity(models=2)) == Capacity(models=1)
    assert Capacity(10**6, 30).excess_over(Capacity(bytes=20)) == Capacity(bytes=10)


@pytest.mark.parametrize(("models", "percent", "headroom"), [(50, 5, 3), (20, 5, 1), (10, 5, 1), (2, 5, 1), (50, 0, 0)])
def test_a_share_of_a_limited_number_is_at_least_one_unless_it_is_none(
    models: int, percent: float, headroom: int
) -> None:
    assert Capacity(models=models).share(percent) == Capacity(models=headroom)


def test_of_what_is_not_limited_there_is_no_share() -> None:
    assert Capacity().share(50) == Capacity()
    assert Capacity(bytes=1000).share(5) == Capacity(bytes=50)


@given(st.integers(1, 1000), st.sampled_from([0.0, 5.0, 50.0]))
def test_headroom_never_takes_the_only_slot(models: int, percent: float) -> None:
    """Otherwise a Triton of one model would unload it once it is idle, although no model needs its slot."""
    assert Capacity(models=models).share(percent).models < models
