"""What residency does without being asked: pins, copies, spare room, what is idle, Tritons that come and go."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.catalog.entities import Catalog
from controller.placement.policy.headroom import places
from controller.placement.predictor import Pod
from controller.placement.triton_client import GpuMemory
from tests.unit.controller.folders import declare, publish
from tests.unit.controller.tritons import HERE, Desk, FakeTriton, models_of, read, turn

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


def ranked(desk: Desk, model: str) -> list[str]:
    return [pod.address for pod in desk.residency.fleet.ranked(model)]


def homes(desk: Desk) -> dict[str, tuple[str, ...]]:
    return {model: versions[1] for model, versions in desk.placement.items()}


async def test_pins_are_loaded_at_the_start_and_again_after_a_restart(catalog: Catalog) -> None:
    triton = FakeTriton()
    desk = Desk(catalog, triton)
    for times in (1, 2):
        await desk.look()
        assert models_of(triton.loads) == ["sales_it"] * times
        assert desk.placement == {"sales_it": {1: HERE}}
        triton.restart()


async def test_a_pin_that_fails_is_tried_again_only_after_a_while(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.refuses["sales_it", 1] = "broken"
    desk = Desk(catalog, triton, failure_ttl_s=30)
    for now, loads in ((0, 1), (29, 1), (31, 2)):
        desk.now = now
        await desk.look()
        assert len(triton.loads) == loads


async def test_many_pins_leave_room_for_a_callers_load(many: Catalog, models: Path, documents: Path) -> None:
    names = sorted(many.models)[:20]
    for name in names:
        declare(documents, name, {1: 100}, pin=True)
    triton = FakeTriton()
    triton.finish.clear()
    desk = Desk(read(models, documents), triton, max_concurrent_loads=1, max_waiting_loads=3)
    await desk.look()
    caller = desk.ask("sales_he")
    await triton.started.wait()
    await turn()
    triton.finish.set()
    assert await caller == HERE
    assert models_of(triton.loads).index("sales_he") == 1
    while len(desk.placement) < 21:
        await desk.look()
    assert len(triton.loads) == 21


async def test_min_copies_are_kept_on_the_tritons_with_the_strongest_claim(models: Path, documents: Path) -> None:
    publish(models, "sales_de")
    declare(documents, "sales_de", {1: 100}, placement="minReplicas: 2")
    tritons = fleet_of("a:1", "b:1", "c:1")
    desk = Desk(read(models, documents), *tritons)
    await desk.look()
    await desk.look()
    first, second, third = ranked(desk, "sales_de")
    assert set(homes(desk)["sales_de"]) == {first, second}
    desk.tritons[first].away = True
    await desk.look()
    await desk.look()
    assert set(homes(desk)["sales_de"]) == {second, third}


async def test_what_is_idle_is_unloaded_after_its_time_and_pins_are_not(catalog: Catalog) -> None:
    triton = FakeTriton()
    desk = Desk(catalog, triton, idle_ttl_s=100)
    await desk.look()
    await desk.ensure("sales_de")
    await desk.ensure("sales_fr")
    desk.now = 60
    triton.serve(("sales_fr", 1), 1)
    await desk.look()
    desk.now = 101
    await desk.look()
    await desk.settle()
    assert models_of(triton.unloads) == ["sales_de"]
    assert sorted(desk.placement) == ["sales_fr", "sales_it"]
    assert desk.decisions("unload") == [("sales_de", "idle for 100 s")]


async def test_an_idle_time_of_nothing_keeps_everything(catalog: Catalog) -> None:
    triton = FakeTriton()
    desk = Desk(catalog, triton, idle_ttl_s=0)
    await desk.ensure("sales_de")
    desk.now = 1e9
    await desk.look()
    assert triton.unloads == []


async def test_spare_room_is_kept_so_that_a_load_need_not_wait_for_an_unload(many: Catalog) -> None:
    triton = FakeTriton()
    desk = Desk(many, triton, max_models=10, spare_percent=20, busy_s=0)
    for number, name in enumerate(sorted(many.models)[:12]):
        desk.now = float(number)
        await desk.ensure(name)
        await desk.settle()
        assert len(triton.loaded) <= 8
    assert triton.most_held <= 10
    assert {reason for _, reason in desk.decisions("unload")} == {"spare room for the next load"}


async def test_more_room_is_kept_while_many_loads_come(many: Catalog) -> None:
    triton = FakeTriton()
    triton.loaded = {(name, 1) for name in sorted(many.models)[:19]}
    desk = Desk(many, triton, max_models=20, spare_percent=5, spare_max_percent=50, busy_s=0, idle_ttl_s=0)
    await desk.look()
    assert len(triton.loaded) == 19
    spare = desk.pod().spare
    spare.load_s.value = 2.0
    for number in range(120):
        spare.load_begins(1, number / 2)
    desk.now = 60.0
    await desk.look()
    await desk.settle()
    assert len(triton.loaded) == 20 - places(2.0 * spare.loads_per_s(60.0), bursts=2.5) < 13
    assert {reason for _, reason in desk.decisions("unload")} == {"spare room for the next load"}


@pytest.mark.parametrize("limits", [{"max_models": 1}, {"max_bytes": 100}])
async def test_the_only_model_of_a_triton_stays_until_its_room_is_wanted(
    catalog: Catalog, limits: dict[str, int]
) -> None:
    triton = FakeTriton()
    wanted = Catalog({"sales_de": catalog.models["sales_de"]})
    desk = Desk(wanted, triton, estimate_base_bytes=97, estimate_factor=0, **limits)
    await desk.ensure()
    desk.now = 100.0
    await desk.look()
    await desk.settle()
    assert triton.loaded == {("sales_de", 1)}


async def test_what_is_asked_for_most_stays_through_a_burst_of_rare_models(many: Catalog) -> None:
    popular, *rare = sorted(many.models)[:20]
    triton = FakeTriton()
    desk = Desk(many, triton, max_models=4, spare_percent=0, busy_s=0)
    await desk.ensure(popular)
    await desk.look()
    triton.serve((popular, 1), 100)
    await desk.look()
    for number, name in enumerate(rare, 1):
        desk.now = float(number)
        await desk.ensure(name)
    assert popular not in models_of(triton.unloads)
    assert len(triton.unloads) == len(rare) - 3


async def test_a_model_that_is_gone_from_the_catalog_is_unloaded(models: Path, catalog: Catalog) -> None:
    triton = FakeTriton()
    desk = Desk(catalog, triton)
    await desk.ensure("sales_de")
    await desk.look()
    desk.residency.set_catalog(Catalog({"sales_it": catalog.models["sales_it"]}))
    await desk.look()
    await desk.settle()
    assert sorted(desk.placement) == ["sales_it"]
    assert desk.decisions("unload") == [("sales_de", "removed from the catalog")]


async def test_a_busy_model_gets_a_copy_and_loses_it_when_it_cools(catalog: Catalog) -> None:
    key = ("sales_de", 1)
    tritons = fleet_of("a:1", "b:1")
    desk = Desk(catalog, *tritons, copies_up_s=5, copies_down_s=60)
    await desk.look()
    first = (await desk.ensure("sales_de"))[0]
    for second in range(1, 9):
        desk.now = float(second)
        desk.tritons[first].serve(key, 100, queue_s=3.0, total_s=4.0)
        await desk.look()
    assert len(homes(desk)["sales_de"]) == 2
    assert desk.decisions("copies")[0][1].startswith("1 to 2: 3.0 requests wait")
    for second in range(9, 80):
        desk.now = float(second)
        desk.tritons[first].serve(key, 1, total_s=0.01)
        await desk.look()
    await desk.settle()
    assert homes(desk)["sales_de"] == (ranked(desk, "sales_de")[0],)


async def test_copies_that_are_there_at_the_start_are_kept(catalog: Catalog) -> None:
    tritons = fleet_of("a:1", "b:1", "c:1")
    for triton in tritons:
        triton.loaded = {("sales_de", 1)}
    desk = Desk(catalog, *tritons)
    for pod in desk.residency.fleet:  # one after the other, as in a restarted process
        await desk.residency.upkeep.look(pod)
    await desk.look()
    assert len(homes(desk)["sales_de"]) == 3
    assert desk.decisions("unload") == []


async def test_what_a_lost_triton_had_in_use_is_loaded_on_the_others(many: Catalog) -> None:
    tritons = fleet_of("a:1", "b:1", "c:1")
    desk = Desk(many, *tritons, max_concurrent_loads=100)
    await desk.look()
    for name in many.models:
        await desk.ensure(name)
    before = homes(desk)
    desk.tritons["b:1"].away = True
    await desk.look()
    after = homes(desk)
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if before[name] != ("b:1",))
    assert all("b:1" not in addresses for addresses in after.values())


async def test_a_triton_that_comes_takes_home_its_models_and_no_others(many: Catalog) -> None:
    tritons = fleet_of("a:1", "b:1", "c:1")
    desk = Desk(many, *tritons, max_concurrent_loads=2)
    desk.residency.fleet.set_addresses(["a:1", "b:1"])
    await desk.look()
    for name in many.models:
        await desk.ensure(name)
    before = homes(desk)
    desk.residency.fleet.set_addresses(["a:1", "b:1", "c:1"])
    for _ in range(20):
        await desk.look()
    await desk.settle()
    after = homes(desk)
    moved = {name for name in before if after[name] != before[name]}
    assert 0 < len(moved) < len(many.models) / 2
    assert all(after[name] == ("c:1",) == (ranked(desk, name)[0],) for name in moved)
    assert all(len(addresses) == 1 for addresses in after.values())


async def test_a_follower_looks_and_moves_nothing(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.loaded = {("sales_de", 1), ("gone", 1)}
    desk = Desk(Catalog(), triton, idle_ttl_s=1)
    desk.residency.upkeep.leads = False
    desk.residency.set_catalog(catalog)
    for now in (0, 10):
        desk.now = now
        await desk.look()
    assert sorted(desk.placement) == ["gone", "sales_de"]
    assert (triton.loads, triton.unloads) == ([], [])


async def test_the_memory_of_a_version_is_learned_from_the_gpu(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.gpu = GpuMemory(1000 * MIB, 10_000 * MIB)
    desk = Desk(catalog, triton)
    key = ("sales_de", 1)
    for second in range(10):
        desk.now = float(second)
        await desk.look()
    assert desk.residency.needs.size_of(key).source == "estimated"
    await desk.ensure("sales_de")
    triton.gpu = GpuMemory(1300 * MIB, 10_000 * MIB)
    for second in range(10, 20):
        desk.now = float(second)
        await desk.look()
    size = desk.residency.needs.size_of(key)
    assert (size.bytes, size.source) == (300 * MIB, "measured")
    assert desk.residency.moves.budget(desk.pod()).bytes == 8_500 * MIB


async def test_a_triton_that_hangs_delays_no_other(catalog: Catalog) -> None:
    tritons = fleet_of("a:1", "b:1")
    desk = Desk(catalog, *tritons)
    await desk.look()
    hung = desk.pod("a:1")
    desk.tritons["a:1"].busy = True
    for _ in range(3):
        await desk.look()
    assert not hung.answers
    assert await desk.ensure("sales_de") == ("b:1",)


async def test_use_is_counted_from_the_first_look_on_and_again_after_a_reload(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.loaded = {("sales_de", 1)}
    triton.serve(("sales_de", 1), 1000)  # before this process began
    pod = Desk(catalog, triton).pod()
    assert isinstance(pod, Pod)
    await pod.refresh()
    assert await pod.count() == {}
    triton.serve(("sales_de", 1), 5)
    assert await pod.count() == {("sales_de", 1): 5}
    triton.requests.clear()
    triton.serve(("sales_de", 1), 3)
    assert await pod.count() == {("sales_de", 1): 3}
