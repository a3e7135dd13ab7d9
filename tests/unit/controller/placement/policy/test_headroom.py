"""How many places are kept free: as many as loads come in the time of a load and an unload, and some for bursts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.placement.policy.eviction import Room
from controller.placement.policy.headroom import Spare, places
from controller.placement.settings import Limits

BUDGET = Room(models=50, bytes=50_000)
LIMITS = Limits(max_models=50, spare_percent=4, spare_max_percent=30, spare_bursts=2)


def loaded(per_s: float, seconds: float = 300.0, size_bytes: int = 1_000) -> Spare:
    """After loads that came evenly, each of which took 0.5 s, and unloads of 1.5 s."""
    spare = Spare()
    spare.load_s.value, spare.unload_s.value = 0.5, 1.5
    for number in range(int(per_s * seconds)):
        spare.load_begins(size_bytes, number / per_s)
    return spare


def poisson_tail(mean: float, more_than: int) -> float:
    return 1 - sum(math.exp(-mean) * mean**n / math.factorial(n) for n in range(more_than + 1))


def test_without_loads_the_least_is_free() -> None:
    assert Spare().room(BUDGET, LIMITS, 100.0) == Room(2, 2_000)


def test_the_rate_of_loads_is_that_of_late() -> None:
    spare = loaded(per_s=2.0)
    assert spare.loads_per_s(300.0) == pytest.approx(2.0, rel=0.05)
    assert spare.loads_per_s(330.0) == pytest.approx(1.0, rel=0.05)
    assert spare.loads_per_s(900.0) < 0.001


def test_room_is_free_for_the_loads_that_come_in_the_time_of_a_load_and_an_unload_and_for_bursts() -> None:
    spare = loaded(per_s=2.0)
    assert spare.room(BUDGET, LIMITS, 300.0).models == places(4, bursts=2) == 9
    assert spare.room(BUDGET, LIMITS, 330.0).models == places(2, bursts=2) == 6


def test_slower_unloads_want_more_room() -> None:
    spare = loaded(per_s=1.0)
    before = spare.room(BUDGET, LIMITS, 300.0).models
    for _ in range(50):
        spare.unload_took(4.0)
        spare.load_took(1.0)
    assert (before, spare.room(BUDGET, LIMITS, 300.0).models) == (places(2, 2), places(5, 2))


def test_it_is_never_more_than_the_most() -> None:
    assert loaded(per_s=50.0).room(BUDGET, LIMITS, 300.0) == Room(15, 15_000)


def test_a_most_of_nothing_leaves_it_at_the_least() -> None:
    fixed = LIMITS.model_copy(update={"spare_max_percent": 0})
    assert loaded(per_s=2.0).room(BUDGET, fixed, 300.0).models == 2


@pytest.mark.parametrize(("budget", "free"), [(Room(), Room()), (Room(models=1), Room()), (Room(models=2), Room(1))])
def test_without_a_limit_nothing_is_free_and_the_only_place_is_used(budget: Room, free: Room) -> None:
    assert loaded(per_s=2.0).room(budget, LIMITS, 300.0) == free


def test_bytes_are_those_of_as_many_loads_of_late() -> None:
    spare = loaded(per_s=2.0, size_bytes=800)
    assert spare.room(Room(bytes=50_000), LIMITS, 300.0) == Room(0, places(4, 2) * 800)


@given(st.floats(0.05, 20))
def test_with_the_default_one_load_in_fifty_at_most_finds_no_place(mean: float) -> None:
    """When requests for cold models know nothing of each other; the load itself has a place too."""
    free = places(mean, Limits().spare_bursts)
    assert poisson_tail(mean, free - 1) < 0.02
