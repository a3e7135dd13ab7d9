"""Placement without a request: pins, replicas, headroom, idle versions, predictors that come and go."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.catalog.entities import Catalog
from controller.placement.policy.headroom import free_slots
from controller.placement.policy.replica_count import Concurrency
from controller.placement.predictors.gpu_memory import GpuMemory
from controller.placement.predictors.predictor import Predictor
from tests.fakes.triton import HERE, FakeTriton
from tests.model_folders import declare, publish
from tests.unit.controller.placement.harness import PlacementHarness, models_of, read, turn

MIB = 1 << 20


@pytest.fixture
def catalog(models: Path, documents: Path) -> Catalog:
    """Three models; sales_it is pinned."""
    for name in ("sales_de", "sales_fr", "sales_it"):
        publish(models, name)
    declare(documents, "sales_it", {1: 100}, pin=True)
    return read(models, documents)


@pytest.fixture
def many(models: Path) -> Catalog:
    for first in "abcdefgh":
        for second in "abcde":
            publish(models, f"sales_{first}{second}")
    return read(models)


def fleet_of(*addresses: str) -> list[FakeTriton]:
    return [FakeTriton(address) for address in addresses]


def ranked(harness: PlacementHarness, model: str) -> list[str]:
    return [predictor.address for predictor in harness.placement.fleet.ranked(model)]


def homes(harness: PlacementHarness) -> dict[str, tuple[str, ...]]:
    return {model: versions[1] for model, versions in harness.placed.items()}


async def test_pins_are_loaded_at_the_start_and_again_after_a_restart(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton)
    for times in (1, 2):
        await harness.look()
        assert models_of(triton.loads) == ["sales_it"] * times
        assert harness.placed == {"sales_it": {1: HERE}}
        triton.restart()


async def test_a_pin_that_fails_is_tried_again_only_after_a_while(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.refuses["sales_it", 1] = "broken"
    harness = PlacementHarness(catalog, triton, failure_ttl_s=30)
    for now, loads in ((0, 1), (29, 1), (31, 2)):
        harness.now = now
        await harness.look()
        assert len(triton.loads) == loads


async def test_many_pins_leave_capacity_for_a_callers_load(many: Catalog, models: Path, documents: Path) -> None:
    names = sorted(many.models)[:20]
    for name in names:
        declare(documents, name, {1: 100}, pin=True)
    triton = FakeTriton()
    triton.finish.clear()
    harness = PlacementHarness(read(models, documents), triton, max_concurrent_loads=1, max_waiting_loads=3)
    await harness.look()
    caller = harness.ask("sales_he")
    await triton.started.wait()
    await turn()
    triton.finish.set()
    assert await caller == HERE
    assert models_of(triton.loads).index("sales_he") == 1
    while len(harness.placed) < 21:
        await harness.look()
    assert len(triton.loads) == 21


async def test_min_replicas_are_kept_on_the_tritons_with_the_strongest_claim(models: Path, documents: Path) -> None:
    publish(models, "sales_de")
    declare(documents, "sales_de", {1: 100}, placement="minReplicas: 2")
    tritons = fleet_of("a:1", "b:1", "c:1")
    harness = PlacementHarness(read(models, documents), *tritons)
    await harness.look()
    await harness.look()
    first, second, third = ranked(harness, "sales_de")
    assert set(homes(harness)["sales_de"]) == {first, second}
    harness.tritons[first].away = True
    await harness.look()
    await harness.look()
    assert set(homes(harness)["sales_de"]) == {second, third}


async def test_what_is_idle_is_unloaded_after_its_time_and_pins_are_not(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton, idle_ttl_s=100)
    await harness.look()
    await harness.ensure("sales_de")
    await harness.ensure("sales_fr")
    harness.now = 60
    triton.serve(("sales_fr", 1), 1)
    await harness.look()
    harness.now = 101
    await harness.look()
    await harness.settle()
    assert models_of(triton.unloads) == ["sales_de"]
    assert sorted(harness.placed) == ["sales_fr", "sales_it"]
    assert harness.decisions("unload") == [("sales_de", "idle for 100 s")]


async def test_an_idle_time_of_nothing_keeps_everything(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton, idle_ttl_s=0)
    await harness.ensure("sales_de")
    harness.now = 1e9
    await harness.look()
    assert triton.unloads == []


async def test_headroom_is_kept_so_that_a_load_need_not_wait_for_an_unload(many: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(many, triton, max_models=10, headroom_percent=20, busy_s=0)
    for number, name in enumerate(sorted(many.models)[:12]):
        harness.now = float(number)
        await harness.ensure(name)
        await harness.settle()
        assert len(triton.loaded) <= 8
    assert triton.most_held <= 10
    assert {reason for _, reason in harness.decisions("unload")} == {"headroom for the next load"}


async def test_more_headroom_is_kept_while_many_loads_come(many: Catalog) -> None:
    triton = FakeTriton()
    triton.loaded = {(name, 1) for name in sorted(many.models)[:19]}
    harness = PlacementHarness(
        many, triton, max_models=20, headroom_percent=5, headroom_max_percent=50, busy_s=0, idle_ttl_s=0
    )
    await harness.look()
    assert len(triton.loaded) == 19
    headroom = harness.predictor().headroom
    headroom.load_s.value = 2.0
    for number in range(120):
        headroom.load_begins(1, number / 2)
    harness.now = 60.0
    await harness.look()
    await harness.settle()
    assert len(triton.loaded) == 20 - free_slots(2.0 * headroom.loads_per_s(60.0), bursts=2.5) < 13
    assert {reason for _, reason in harness.decisions("unload")} == {"headroom for the next load"}


@pytest.mark.parametrize("limits", [{"max_models": 1}, {"max_bytes": 100}])
async def test_the_only_model_of_a_triton_stays_until_its_capacity_is_wanted(
    catalog: Catalog, limits: dict[str, int]
) -> None:
    triton = FakeTriton()
    wanted = Catalog({"sales_de": catalog.models["sales_de"]})
    harness = PlacementHarness(wanted, triton, estimate_base_bytes=97, estimate_factor=0, **limits)
    await harness.ensure()
    harness.now = 100.0
    await harness.look()
    await harness.settle()
    assert triton.loaded == {("sales_de", 1)}


async def test_what_is_asked_for_most_stays_through_a_burst_of_rare_models(many: Catalog) -> None:
    popular, *rare = sorted(many.models)[:20]
    triton = FakeTriton()
    harness = PlacementHarness(many, triton, max_models=4, headroom_percent=0, busy_s=0)
    await harness.ensure(popular)
    await harness.look()
    triton.serve((popular, 1), 100)
    await harness.look()
    for number, name in enumerate(rare, 1):
        harness.now = float(number)
        await harness.ensure(name)
    assert popular not in models_of(triton.unloads)
    assert len(triton.unloads) == len(rare) - 3


async def test_a_model_that_is_gone_from_the_catalog_is_unloaded(models: Path, catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton)
    await harness.ensure("sales_de")
    await harness.look()
    harness.placement.set_catalog(Catalog({"sales_it": catalog.models["sales_it"]}))
    await harness.look()
    await harness.settle()
    assert sorted(harness.placed) == ["sales_it"]
    assert harness.decisions("unload") == [("sales_de", "removed from the catalog")]


async def test_a_busy_model_gets_a_copy_and_loses_it_when_it_cools(catalog: Catalog) -> None:
    key = ("sales_de", 1)
    tritons = fleet_of("a:1", "b:1")
    harness = PlacementHarness(catalog, *tritons, replicas_up_s=5, replicas_down_s=60)
    await harness.look()
    first = (await harness.ensure("sales_de"))[0]
    for second in range(1, 9):
        harness.now = float(second)
        harness.tritons[first].serve(key, 100, queue_s=3.0, total_s=4.0)
        await harness.look()
    assert len(homes(harness)["sales_de"]) == 2
    assert harness.decisions("replicas")[0][1].startswith("1 to 2: 3.0 requests wait")
    for second in range(9, 80):
        harness.now = float(second)
        harness.tritons[first].serve(key, 1, total_s=0.01)
        await harness.look()
    await harness.settle()
    assert homes(harness)["sales_de"] == (ranked(harness, "sales_de")[0],)


async def test_replicas_that_are_there_at_the_start_are_kept(catalog: Catalog) -> None:
    tritons = fleet_of("a:1", "b:1", "c:1")
    for triton in tritons:
        triton.loaded = {("sales_de", 1)}
    harness = PlacementHarness(catalog, *tritons)
    for predictor in harness.placement.fleet:  # one after the other, as in a restarted process
        await harness.placement.reconciler.observe(predictor)
    await harness.look()
    assert len(homes(harness)["sales_de"]) == 3
    assert harness.decisions("unload") == []


async def test_what_a_lost_triton_had_in_use_is_loaded_on_the_others(many: Catalog) -> None:
    tritons = fleet_of("a:1", "b:1", "c:1")
    harness = PlacementHarness(many, *tritons, max_concurrent_loads=100)
    await harness.look()
    for name in many.models:
        await harness.ensure(name)
    before = homes(harness)
    harness.tritons["b:1"].away = True
    await harness.look()
    after = homes(harness)
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if before[name] != ("b:1",))
    assert all("b:1" not in addresses for addresses in after.values())


async def test_a_new_triton_gets_its_preferred_models_and_no_others(many: Catalog) -> None:
    tritons = fleet_of("a:1", "b:1", "c:1")
    harness = PlacementHarness(many, *tritons, max_concurrent_loads=2)
    harness.placement.fleet.set_addresses(["a:1", "b:1"])
    await harness.look()
    for name in many.models:
        await harness.ensure(name)
    before = homes(harness)
    harness.placement.fleet.set_addresses(["a:1", "b:1", "c:1"])
    for _ in range(20):
        await harness.look()
    await harness.settle()
    after = homes(harness)
    moved = {name for name in before if after[name] != before[name]}
    assert 0 < len(moved) < len(many.models) / 2
    assert all(after[name] == ("c:1",) == (ranked(harness, name)[0],) for name in moved)
    assert all(len(addresses) == 1 for addresses in after.values())


async def test_a_follower_observes_and_loads_nothing(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.loaded = {("sales_de", 1), ("gone", 1)}
    harness = PlacementHarness(Catalog(), triton, idle_ttl_s=1)
    harness.placement.reconciler.leads = False
    harness.placement.set_catalog(catalog)
    for now in (0, 10):
        harness.now = now
        await harness.look()
    assert sorted(harness.placed) == ["gone", "sales_de"]
    assert (triton.loads, triton.unloads) == ([], [])


async def test_the_memory_of_a_version_is_measured_on_the_gpu(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.gpu = GpuMemory(1000 * MIB, 10_000 * MIB)
    harness = PlacementHarness(catalog, triton)
    key = ("sales_de", 1)
    for second in range(10):
        harness.now = float(second)
        await harness.look()
    assert harness.placement.versions.size_of(key).source == "estimated"
    await harness.ensure("sales_de")
    triton.gpu = GpuMemory(1300 * MIB, 10_000 * MIB)
    for second in range(10, 20):
        harness.now = float(second)
        await harness.look()
    size = harness.placement.versions.size_of(key)
    assert (size.bytes, size.source) == (300 * MIB, "measured")
    assert harness.placement.state.budget(harness.predictor()).bytes == 8_500 * MIB


async def test_a_triton_that_hangs_delays_no_other(catalog: Catalog) -> None:
    tritons = fleet_of("a:1", "b:1")
    harness = PlacementHarness(catalog, *tritons)
    await harness.look()
    hung = harness.predictor("a:1")
    harness.tritons["a:1"].busy = True
    for _ in range(3):
        await harness.look()
    assert not hung.available
    assert await harness.ensure("sales_de") == ("b:1",)


async def test_use_is_counted_from_the_first_observation_on_and_again_after_a_reload(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.loaded = {("sales_de", 1)}
    triton.serve(("sales_de", 1), 1000)  # before this process began
    predictor = PlacementHarness(catalog, triton).predictor()
    assert isinstance(predictor, Predictor)
    await predictor.refresh()
    assert await predictor.count() == {}
    triton.serve(("sales_de", 1), 5)
    assert await predictor.count() == {("sales_de", 1): 5}
    triton.requests.clear()
    triton.serve(("sales_de", 1), 3)
    assert await predictor.count() == {("sales_de", 1): 3}


@pytest.mark.parametrize(("predictors", "quiet_s", "busy_s"), [(1, 1, 1), (25, 1, 1), (100, 4, 1), (500, 20, 5)])
async def test_a_large_fleet_is_observed_less_often_without_traffic_most_of_all(
    catalog: Catalog, predictors: int, quiet_s: float, busy_s: float
) -> None:
    harness = PlacementHarness(catalog, *fleet_of(*(f"p{number}:1" for number in range(predictors))))
    await harness.look()
    predictor, interval_s = harness.predictor("p0:1"), harness.placement.reconciler._interval_s
    assert interval_s(predictor, 1.0) == quiet_s
    predictor.statistics.concurrency = {("sales_de", 1): Concurrency(0.0, 0.1)}
    assert interval_s(predictor, 1.0) == busy_s
