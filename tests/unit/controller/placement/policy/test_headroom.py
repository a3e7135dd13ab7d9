"""Headroom: free slots for the loads that arrive during a load and an unload, and more for bursts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.placement.policy.eviction import Capacity
from controller.placement.policy.headroom import Headroom, free_slots
from controller.placement.settings import PlacementSettings

BUDGET = Capacity(models=50, bytes=50_000)
SETTINGS = PlacementSettings(max_models=50, headroom_percent=4, headroom_max_percent=30, headroom_bursts=2)


def loaded(per_s: float, seconds: float = 300.0, size_bytes: int = 1_000) -> Headroom:
    """Build a headroom after evenly spaced loads of 0.5 s each, and unloads of 1.5 s."""
    headroom = Headroom()
    headroom.load_s.value, headroom.unload_s.value = 0.5, 1.5
    for number in range(int(per_s * seconds)):
        headroom.load_begins(size_bytes, number / per_s)
    return headroom


def poisson_tail(mean: float, more_than: int) -> float:
    return 1 - sum(math.exp(-mean) * mean**n / math.factorial(n) for n in range(more_than + 1))


def test_without_loads_the_least_is_free() -> None:
    assert Headroom().capacity(BUDGET, SETTINGS, 100.0) == Capacity(2, 2_000)


def test_the_rate_of_loads_is_that_of_late() -> None:
    headroom = loaded(per_s=2.0)
    assert headroom.loads_per_s(300.0) == pytest.approx(2.0, rel=0.05)
    assert headroom.loads_per_s(330.0) == pytest.approx(1.0, rel=0.05)
    assert headroom.loads_per_s(900.0) < 0.001


def test_capacity_is_free_for_the_loads_that_come_in_the_time_of_a_load_and_an_unload_and_for_bursts() -> None:
    headroom = loaded(per_s=2.0)
    assert headroom.capacity(BUDGET, SETTINGS, 300.0).models == free_slots(4, bursts=2) == 9
    assert headroom.capacity(BUDGET, SETTINGS, 330.0).models == free_slots(2, bursts=2) == 6


def test_slower_unloads_want_more_capacity() -> None:
    headroom = loaded(per_s=1.0)
    before = headroom.capacity(BUDGET, SETTINGS, 300.0).models
    for _ in range(50):
        headroom.unload_took(4.0)
        headroom.load_took(1.0)
    assert (before, headroom.capacity(BUDGET, SETTINGS, 300.0).models) == (free_slots(2, 2), free_slots(5, 2))


def test_it_is_never_more_than_the_most() -> None:
    assert loaded(per_s=50.0).capacity(BUDGET, SETTINGS, 300.0) == Capacity(15, 15_000)


def test_a_most_of_nothing_leaves_it_at_the_least() -> None:
    fixed = SETTINGS.model_copy(update={"headroom_max_percent": 0})
    assert loaded(per_s=2.0).capacity(BUDGET, fixed, 300.0).models == 2


@pytest.mark.parametrize(
    ("budget", "free"), [(Capacity(), Capacity()), (Capacity(models=1), Capacity()), (Capacity(models=2), Capacity(1))]
)
def test_without_a_limit_nothing_is_free_and_the_only_slot_is_used(budget: Capacity, free: Capacity) -> None:
    assert loaded(per_s=2.0).capacity(budget, SETTINGS, 300.0) == free


def test_bytes_are_those_of_as_many_loads_of_late() -> None:
    headroom = loaded(per_s=2.0, size_bytes=800)
    assert headroom.capacity(Capacity(bytes=50_000), SETTINGS, 300.0) == Capacity(0, free_slots(4, 2) * 800)


@given(st.floats(0.05, 20))
def test_with_the_default_one_load_in_fifty_at_most_finds_no_slot(mean: float) -> None:
    """Assume independent requests for cold models; the load itself has a slot too."""
    free = free_slots(mean, PlacementSettings().headroom_bursts)
    assert poisson_tail(mean, free - 1) < 0.02
