"""All Tritons together: preferred and present replicas of a model, and reports of added and removed Tritons."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.catalog.entities import Catalog
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.fleet import Fleet, rendezvous
from controller.placement.predictors.triton_client import Index
from tests.fakes.triton import FakeTriton
from tests.unit.controller.placement.harness import PlacementHarness, turn
from triptych.errors import StageUnavailable, TriptychError

models = st.integers(0, 10**6).map(lambda n: f"sales_forecast_{n}")

DE, FR = ("sales_de", 1), ("sales_fr", 1)

addresses = st.lists(st.integers(0, 255).map(lambda n: f"10.0.0.{n}:8001"), min_size=1, max_size=12, unique=True).map(
    lambda each: tuple(sorted(each))
)


def fleet_of(*tritons: FakeTriton, reported: Callable[[set[VersionKey]], None] = lambda _: None) -> Fleet:
    fleet = Fleet({triton.address: triton for triton in tritons}.__getitem__, 2, reported, lambda: 0.0)
    fleet.set_addresses([triton.address for triton in tritons])
    return fleet


@given(addresses, models)
def test_a_model_has_an_order_of_all_tritons_whatever_order_they_are_known_in(
    there: tuple[str, ...], model: str
) -> None:
    order = rendezvous(model, there)
    assert sorted(order) == list(there)
    assert rendezvous(model, tuple(reversed(there))) == order


@given(addresses, models, st.data())
def test_when_a_triton_is_removed_the_order_of_the_others_stays(
    there: tuple[str, ...], model: str, data: st.DataObject
) -> None:
    """Only models of the removed Triton move, each to the next Triton in its order."""
    gone = data.draw(st.sampled_from(there))
    left = tuple(each for each in there if each != gone)
    assert rendezvous(model, left) == tuple(each for each in rendezvous(model, there) if each != gone)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_models_are_spread_evenly(count: int) -> None:
    there = tuple(f"10.0.{n}.7:8001" for n in range(count))
    homes = Counter(rendezvous(f"sales_forecast_{n}", there)[0] for n in range(5000))
    mean = 5000 / count
    assert len(homes) == count
    assert max(abs(each - mean) for each in homes.values()) < 5 * mean**0.5


def test_a_new_triton_takes_its_share_and_nothing_moves_between_the_others() -> None:
    there = tuple(f"10.0.{n}.7:8001" for n in range(9))
    known = [f"sales_forecast_{n}" for n in range(5000)]
    before = {model: rendezvous(model, there)[0] for model in known}
    after = {model: rendezvous(model, (*there, "10.0.9.7:8001"))[0] for model in known}
    moved = [model for model in known if before[model] != after[model]]
    assert {after[model] for model in moved} == {"10.0.9.7:8001"}
    assert len(moved) == pytest.approx(500, abs=5 * 500**0.5)


def test_the_second_choices_of_a_tritons_models_are_spread_over_all_others() -> None:
    there = tuple(f"10.0.{n}.7:8001" for n in range(5))
    orders = [rendezvous(f"sales_forecast_{n}", there) for n in range(5000)]
    heirs = Counter(order[1] for order in orders if order[0] == there[0])
    assert len(heirs) == 4
    assert max(heirs.values()) < 2 * min(heirs.values())


async def test_only_tritons_that_answer_have_a_claim() -> None:
    one, two = FakeTriton("a:1"), FakeTriton("b:1")
    fleet = fleet_of(one, two)
    assert fleet.ranked("sales_de") == fleet.available() == []
    two.away = True
    await fleet.refresh()
    assert [predictor.address for predictor in fleet.ranked("sales_de")] == ["a:1"]
    assert [predictor.address for predictor in fleet] == ["a:1", "b:1"]
    two.away = False
    await fleet.refresh()
    assert {predictor.address for predictor in fleet.ranked("sales_de")} == {"a:1", "b:1"}
    await fleet.close()


async def test_who_has_what_is_read_from_every_index() -> None:
    one, two = FakeTriton("a:1"), FakeTriton("b:1")
    one.loaded, two.loaded = {DE, ("sales_de", 2)}, {DE, FR}
    fleet = fleet_of(one, two)
    assert fleet.ready_addresses("sales_de") == {}
    await fleet.refresh()
    assert [predictor.address for predictor in fleet.holders(DE)] == ["a:1", "b:1"]
    assert fleet.ready_addresses("sales_de") == {1: ("a:1", "b:1"), 2: ("a:1",)}
    assert fleet.ready_addresses("sales_it") == {}
    await fleet.close()


async def test_a_failure_on_any_triton_is_known_with_its_reason() -> None:
    one, two = FakeTriton("a:1"), FakeTriton("b:1")
    fleet = fleet_of(one, two)
    list(fleet)[1].remember_failure(DE, "out of memory", 30)
    assert fleet.failures("sales_de", [1, 2]) == {1: "out of memory"}
    assert fleet.failures("sales_fr", [1]) == {}
    await fleet.close()


async def test_added_and_removed_addresses_are_reported_and_the_others_stay_as_they_are() -> None:
    one, two, three = FakeTriton("a:1"), FakeTriton("b:1"), FakeTriton("c:1")
    fleet = Fleet({t.address: t for t in (one, two, three)}.__getitem__, 2, lambda _: None, lambda: 0.0)
    came, gone = fleet.set_addresses(["a:1", "b:1"])
    assert ([predictor.address for predictor in came], gone) == (["a:1", "b:1"], [])
    kept = came[1]
    came, gone = fleet.set_addresses(["b:1", "c:1"])
    assert ([predictor.address for predictor in came], [predictor.address for predictor in gone]) == (["c:1"], ["a:1"])
    assert list(fleet)[0] is kept
    assert (fleet.has(kept), fleet.has(gone[0])) == (True, False)
    await fleet.close()


async def test_the_versions_whose_replicas_changed_are_reported_and_no_others() -> None:
    reported: list[set[VersionKey]] = []
    one, two = FakeTriton("a:1"), FakeTriton("b:1")
    one.loaded, two.loaded = {DE}, {DE, FR}
    fleet = fleet_of(one, two, reported=reported.append)
    await fleet.refresh()
    assert reported == [{DE}, {DE, FR}]
    reported.clear()
    two.loaded.discard(FR)
    await fleet.refresh()
    assert reported == [{FR}]
    reported.clear()
    fleet.set_addresses(["a:1"])
    assert reported == [{DE}]
    assert fleet.ready_addresses("sales_de") == {1: ("a:1",)}
    await fleet.close()


async def test_an_answer_of_a_removed_triton_is_not_reported() -> None:
    reported: list[set[VersionKey]] = []
    one = FakeTriton("a:1")
    fleet = fleet_of(one, reported=reported.append)
    await fleet.refresh()
    (predictor,) = fleet
    fleet.set_addresses([])
    await turn()
    reported.clear()
    one.loaded = {DE}
    await predictor.refresh()
    assert reported == []
    assert fleet.holders(DE) == []
    await fleet.close()


class HangingTriton(FakeTriton):
    """Its index does not answer while `stuck`; closing it ends the calls, as the client does."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.stuck = False
        self._closed = asyncio.Event()

    async def index(self, *, whole: bool) -> Index:
        if self.stuck:
            await self._closed.wait()
            raise StageUnavailable("predictor", self.address, "the connection was closed")
        return await super().index(whole=whole)

    async def close(self) -> None:
        self._closed.set()


@pytest.mark.parametrize("looks", [1, 2], ids=["in a call", "before its call"])
async def test_a_triton_removed_during_a_refresh_cancels_no_waiter(looks: int) -> None:
    """A cancelled wait would end the caller's request, which another Triton could answer."""
    triton = HangingTriton("a:1")
    fleet = fleet_of(triton)
    await fleet.refresh()
    triton.stuck = True
    (predictor,) = fleet
    waiting = []
    for _ in range(looks):
        waiting.append(asyncio.create_task(predictor.refresh()))
        await turn()
    fleet.set_addresses([])
    await turn()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [each for each in outcomes if not isinstance(each, TriptychError | None)] == []
    assert not predictor.available


async def test_a_fleet_without_tritons_has_nothing_and_closes() -> None:
    harness = PlacementHarness(Catalog())
    assert list(harness.placement.fleet) == harness.placement.fleet.ranked("sales_de") == []
    await harness.placement.fleet.refresh()
    await harness.placement.close()
