"""Load on request into a Triton that is full: evictions, waits and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
from tritonclient.grpc import model_config_pb2 as mc

from controller.catalog.entities import Catalog
from controller.placement.predictors.triton_client import Index
from tests.fakes.triton import HERE, FakeTriton
from tests.model_folders import declare, publish
from tests.unit.controller.placement.harness import PlacementHarness, models_of, read, turn
from triptych.errors import LoadFailed, Overloaded


async def test_the_coldest_makes_capacity_and_its_capacity_is_free_only_when_the_index_says_so(
    catalog: Catalog,
) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton, max_models=2, headroom_percent=0, busy_s=0)
    await harness.ensure("sales_de")
    await harness.ensure("sales_fr")
    harness.now = 10
    triton.serve(("sales_de", 1), 5)
    await harness.look()
    triton.serve(("sales_de", 1), 5)
    await harness.look()
    triton.forget.clear()
    caller = harness.ask("sales_it")
    await asyncio.sleep(0.15)
    assert models_of(triton.unloads) == ["sales_fr"]
    assert models_of(triton.loads) == ["sales_de", "sales_fr"]  # its slot is not free yet
    assert "sales_fr" not in harness.placed
    triton.forget.set()
    assert await caller == HERE
    assert triton.most_held == 2
    assert harness.decisions("unload") == [("sales_fr", "capacity for sales_it version 1")]


async def test_a_load_is_refused_with_a_hint_when_all_that_is_loaded_is_in_use(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(
        catalog, triton, max_models=2, headroom_percent=0, busy_s=8, min_loaded_s=60, capacity_wait_s=1
    )
    await harness.ensure("sales_de")
    await harness.ensure("sales_fr")
    with pytest.raises(Overloaded, match=r"full of models that are in use; try again in 8 s") as refusal:
        await harness.ensure("sales_it")
    assert refusal.value.retry_after_s == 8
    assert triton.unloads == []
    harness.now = 9  # quiet for long enough
    assert await harness.ensure("sales_it") == HERE


async def test_what_is_in_use_may_be_pushed_out_once_it_has_had_its_time(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(
        catalog, triton, max_models=1, headroom_percent=0, busy_s=100, min_loaded_s=60, capacity_wait_s=1
    )
    await harness.ensure("sales_de")
    await harness.look()
    harness.now = 59
    with pytest.raises(Overloaded, match="try again in 1 s"):
        await harness.ensure("sales_fr", within_s=0.01)
    harness.now = 61
    assert await harness.ensure("sales_fr") == HERE


async def test_a_triton_full_of_pins_reports_that_it_needs_more_capacity(models: Path, documents: Path) -> None:
    for name in ("sales_de", "sales_fr"):
        publish(models, name)
    declare(documents, "sales_fr", {1: 100}, pin=True)
    triton = FakeTriton()
    harness = PlacementHarness(read(models, documents), triton, max_models=1, headroom_percent=0, busy_s=0)
    await harness.look()
    assert triton.loads == [("sales_fr", 1)]
    with pytest.raises(Overloaded, match="full of models that are to stay loaded; give it more memory or add one"):
        await harness.ensure("sales_de")
    assert triton.unloads == []


async def test_a_model_larger_than_every_budget_fails_with_both_figures(models: Path, documents: Path) -> None:
    publish(models, "sales_de")
    declare(documents, "sales_de", {1: 100}, placement="memory: 4Gi")
    triton = FakeTriton()
    harness = PlacementHarness(read(models, documents), triton, max_bytes=1 << 30)
    with pytest.raises(LoadFailed, match=r"takes 4294967296 bytes \(declared\), and no predictor .* 1073741824"):
        await harness.ensure()
    assert triton.loads == []


async def test_capacity_is_counted_in_bytes_too(models: Path, documents: Path) -> None:
    for name in ("sales_de", "sales_fr", "sales_it"):
        publish(models, name)
        declare(documents, name, {1: 100}, placement="memory: 400Mi")
    triton = FakeTriton()
    harness = PlacementHarness(read(models, documents), triton, max_bytes=1 << 30, headroom_percent=0, busy_s=0)
    for name in ("sales_de", "sales_fr", "sales_it"):
        harness.now += 1
        await harness.ensure(name)
    assert models_of(triton.unloads) == ["sales_de"]
    assert triton.most_held == 2


async def test_a_call_that_waits_for_a_version_prevents_its_eviction(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.finish.clear()
    harness = PlacementHarness(catalog, triton, max_models=1, headroom_percent=0, busy_s=0, capacity_wait_s=0.2)
    first = harness.ask("sales_de")
    await triton.started.wait()
    with pytest.raises(Overloaded):
        await harness.ensure("sales_fr")
    triton.finish.set()
    assert await first == HERE
    assert triton.unloads == []


async def test_more_hot_models_than_fit_do_not_push_each_other_out_in_a_circle(models: Path) -> None:
    names = [f"sales_{chr(97 + number)}{chr(97 + number)}" for number in range(8)]
    for name in names:
        publish(models, name)
    triton = FakeTriton()
    harness = PlacementHarness(
        read(models), triton, max_models=4, headroom_percent=0, busy_s=3, min_loaded_s=30, capacity_wait_s=0
    )
    refused = answered = 0
    for second in range(120):  # every model is asked for once a second
        harness.now = float(second)
        for name in names:
            try:
                await harness.ensure(name)
                answered += 1
            except Overloaded:
                refused += 1
    assert len(triton.loads) <= 4 * (120 / 30 + 1)
    assert answered > 0.45 * 120 * len(names)
    assert refused + answered == 120 * len(names)


async def test_a_request_for_a_victim_prevents_its_eviction(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton, withdraw_s=5)
    await harness.ensure()
    going = harness.unload("sales_de", 1, "idle for 900 s")
    await turn()
    assert harness.placed == {}
    assert await harness.ensure() == HERE
    assert going.cancelled()
    assert (triton.unloads, len(triton.loads)) == ([], 1)


async def test_a_request_for_a_version_that_is_being_unloaded_loads_it_again(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton)
    await harness.ensure()
    triton.forget.clear()
    harness.unload("sales_de", 1, "idle for 900 s")
    while not triton.unloads:
        await turn()
    caller = harness.ask()
    await turn()
    assert not caller.done()
    triton.forget.set()
    assert await caller == HERE
    assert len(triton.loads) == 2


async def test_a_triton_too_busy_to_answer_after_a_load_is_asked_again(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton)
    await harness.look()
    triton.finish.clear()
    caller = harness.ask()
    await triton.started.wait()
    triton.busy_looks = 2
    triton.finish.set()
    assert await caller == HERE
    assert harness.placement.failures("sales_de", [1]) == {}


class SmallShm(FakeTriton):
    """Capacity for so many processes in /dev/shm."""

    WORDS = (
        "Internal: Unable to initialize shared memory key 'triptych-8001-1f' to requested size (1048576 bytes). If you "
        "are running Triton inside docker, use '--shm-size' flag to control the shared memory region size. Each Python "
        "backend model instance requires at least 1 MB of shared memory. Error: No space left on device"
    )

    def __init__(self, places: int) -> None:
        super().__init__()
        self.places = places

    async def load(self, model: str, config: mc.ModelConfig, versions: Iterable[int], timeout_s: float) -> None:
        if len(self.loaded | {(model, version) for version in versions}) > self.places:
            raise LoadFailed(model, f"load failed for '{model}': version 1 is at UNAVAILABLE state: {self.WORDS};")
        await super().load(model, config, versions, timeout_s)


async def test_the_coldest_makes_capacity_in_shared_memory(catalog: Catalog) -> None:
    triton = SmallShm(2)
    harness = PlacementHarness(catalog, triton, busy_s=0)
    for _ in range(3):
        for name in ("sales_de", "sales_fr", "sales_it"):
            harness.now += 1
            assert await harness.ensure(name) == HERE
    assert len(triton.loaded) == 2
    assert harness.placement.failures("sales_de", [1]) == {}
    assert {reason for _, reason in harness.decisions("unload")} == {
        f"capacity in shared memory for sales_{route}" for route in ("de", "fr", "it")
    }


async def test_a_full_shared_memory_is_temporary_and_says_what_to_set(catalog: Catalog) -> None:
    triton = SmallShm(2)
    harness = PlacementHarness(catalog, triton, busy_s=8, min_loaded_s=60, capacity_wait_s=1)
    await harness.ensure("sales_de")
    await harness.ensure("sales_fr")
    with pytest.raises(Overloaded, match=r"/dev/shm is full; give it more \(predictor.sharedMemory") as refusal:
        await harness.ensure("sales_it")
    assert refusal.value.retry_after_s == 8
    assert triton.unloads == []
    harness.now = 9
    assert await harness.ensure("sales_it") == HERE


async def test_a_load_pushes_only_a_few_out_of_a_shared_memory_that_others_fill(catalog: Catalog) -> None:
    triton = SmallShm(3)
    harness = PlacementHarness(catalog, triton, busy_s=0)
    await harness.ensure("sales_de")
    await harness.ensure("sales_de", 2)
    await harness.ensure("sales_fr")
    triton.places = 0
    with pytest.raises(Overloaded, match="/dev/shm is full"):
        await harness.ensure("sales_it")
    assert harness.placement.failures("sales_it", [1]) == {}


async def test_two_versions_of_one_model_make_capacity_for_each_other(catalog: Catalog) -> None:
    triton = SmallShm(1)
    harness = PlacementHarness(catalog, triton, busy_s=0)
    for version in (1, 2, 1):
        assert await harness.ensure("sales_de", version) == HERE
    assert triton.loaded == {("sales_de", 1)}


async def test_a_model_that_triton_loads_for_ever_does_not_keep_the_slot_of_others(catalog: Catalog) -> None:
    """A load of another client hangs. If it took one of two slots, two such models would stop every load."""

    class Hangs(FakeTriton):
        async def index(self, *, whole: bool) -> Index:
            index = await super().index(whole=whole)
            return Index(index.ready, frozenset({("sales_de", 1)}), index.unloading)

    harness = PlacementHarness(catalog, Hangs(), max_concurrent_loads=1, load_timeout_s=0.2)
    await harness.look()
    waiting = harness.ask("sales_de")
    await turn()
    assert await harness.ensure("sales_fr") == HERE
    with pytest.raises(LoadFailed, match=r"Triton has been loading it for 0.2 s"):
        await waiting


async def test_a_process_that_ends_while_it_is_loaded_is_given_a_second_chance(catalog: Catalog) -> None:
    """triton#5381: the kernel kills it when memory is short, and the memory is free again a moment later."""

    class Dies(FakeTriton):
        times = 1

        async def load(self, model: str, config: mc.ModelConfig, versions: Iterable[int], timeout_s: float) -> None:
            if self.times:
                self.times -= 1
                raise LoadFailed(model, "Internal: Stub process 'sales_de_0_0' is not healthy.")
            await super().load(model, config, versions, timeout_s)

    triton = Dies()
    harness = PlacementHarness(catalog, triton)
    assert await harness.ensure("sales_de") == HERE
    triton.times = 2
    with pytest.raises(LoadFailed, match="Stub process"):
        await harness.ensure("sales_fr")


async def test_a_load_that_hangs_in_one_triton_is_done_by_another(catalog: Catalog) -> None:
    tritons = {address: FakeTriton(address) for address in ("a:8001", "b:8001")}
    harness = PlacementHarness(catalog, *tritons.values())
    await harness.look()
    first, second = (predictor.address for predictor in harness.placement.fleet.ranked("sales_de"))
    tritons[first].refuses["sales_de", 1] = "no matter"
    harness.predictor(first).remember_failure(("sales_de", 1), "Triton did not finish within 60 s", 30)
    assert await harness.ensure("sales_de") == (second,)
