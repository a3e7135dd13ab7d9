"""Load on request: one load for any number of callers, none twice, none for ever, none that delays another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controller.catalog.entities import Catalog
from tests.fakes.triton import HERE, FakeTriton
from tests.unit.controller.placement.harness import PlacementHarness, read, turn
from triptych.errors import DeadlineExceeded, LoadFailed, Overloaded, Unavailable


async def test_a_hundred_callers_wait_for_one_load(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.finish.clear()
    harness = PlacementHarness(catalog, triton)
    callers = [harness.ask() for _ in range(100)]
    await triton.started.wait()
    triton.finish.set()
    assert set(await asyncio.gather(*callers)) == {HERE}
    assert triton.loads == [("sales_de", 1)]
    assert harness.placed == {"sales_de": {1: HERE}}


async def test_a_caller_that_gives_up_does_not_end_the_load_for_the_others(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.finish.clear()
    harness = PlacementHarness(catalog, triton)
    first, second = harness.ask(), harness.ask()
    await triton.started.wait()
    first.cancel()
    with pytest.raises(DeadlineExceeded, match="model 'sales_de' was not loaded before the call's deadline"):
        await harness.ensure(within_s=0.001)
    triton.finish.set()
    assert await second == HERE
    assert first.cancelled()
    assert triton.loads == [("sales_de", 1)]


async def test_a_deadline_that_has_passed_starts_no_load(catalog: Catalog) -> None:
    triton = FakeTriton()
    with pytest.raises(DeadlineExceeded):
        await PlacementHarness(catalog, triton).ensure(within_s=-1)
    assert triton.loads == []


async def test_what_triton_has_ready_at_the_start_is_not_loaded_again(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.loaded = {("sales_de", 1)}
    harness = PlacementHarness(catalog, triton)
    await harness.look()
    assert harness.placed == {"sales_de": {1: HERE}}
    assert await harness.ensure() == HERE
    assert triton.loads == []


async def test_only_the_version_that_is_asked_for_is_loaded_and_the_others_stay(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton)
    await harness.ensure(version=2)
    assert triton.loaded == {("sales_de", 2)}
    await harness.ensure(version=1)
    assert triton.loads == [("sales_de", 2), ("sales_de", 1)]
    assert harness.placed == {"sales_de": {1: HERE, 2: HERE}}


async def test_a_refusal_carries_tritons_reason_and_is_cached_for_a_while(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.refuses["sales_de", 1] = "no such file model.onnx"
    harness = PlacementHarness(catalog, triton, failure_ttl_s=30)
    for _ in range(3):
        with pytest.raises(LoadFailed, match="^model 'sales_de' could not be loaded: no such file model.onnx$"):
            await harness.ensure()
    assert triton.loads == [("sales_de", 1)]
    assert harness.placement.failures("sales_de", [1, 2]) == {1: "no such file model.onnx"}
    assert {"sales_de"} in harness.changed
    triton.refuses.clear()
    harness.now = 31
    assert await harness.ensure() == HERE


async def test_a_corrupt_version_takes_no_other_version_with_it(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.refuses["sales_de", 2] = "corrupt"
    harness = PlacementHarness(catalog, triton)
    assert await harness.ensure(version=1) == HERE
    with pytest.raises(LoadFailed, match="could not be loaded: corrupt$"):
        await harness.ensure(version=2)
    assert harness.placed == {"sales_de": {1: HERE}}


async def test_a_mended_folder_is_tried_again_at_once(models: Path, catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.refuses["sales_de", 1] = "no such file"
    harness = PlacementHarness(catalog, triton)
    with pytest.raises(LoadFailed):
        await harness.ensure()
    triton.refuses.clear()
    harness.placement.set_catalog(read(models))
    assert await harness.ensure() == HERE


async def test_a_load_that_hangs_holds_up_no_other_model(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.hangs.add("sales_de")
    harness = PlacementHarness(catalog, triton, max_concurrent_loads=2)
    hanging = harness.ask()
    await triton.started.wait()
    assert await harness.ensure("sales_fr") == HERE
    assert await harness.ensure("sales_it") == HERE
    assert harness.placement.state.in_progress.loading(("sales_de", 1))
    await harness.placement.close()
    with pytest.raises(asyncio.CancelledError):
        await hanging


async def test_loads_at_once_and_loads_that_wait_are_bounded(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.finish.clear()
    harness = PlacementHarness(catalog, triton, max_concurrent_loads=1, max_waiting_loads=2)
    running, waiting = harness.ask("sales_de"), harness.ask("sales_fr")
    await triton.started.wait()
    await turn()
    with pytest.raises(Overloaded, match="2 models, the limit, wait to be loaded") as refusal:
        await harness.ensure("sales_it")
    assert refusal.value.retry_after_s > 0
    triton.finish.set()
    await asyncio.gather(running, waiting)
    assert triton.most_running == 1


async def test_a_load_whose_turn_comes_after_the_deadline_is_refused_at_once(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.finish.clear()
    harness = PlacementHarness(catalog, triton, max_concurrent_loads=1)
    callers = [harness.ask("sales_de"), harness.ask("sales_fr")]
    await triton.started.wait()
    await turn()
    with pytest.raises(Overloaded, match="2 loads are waiting at predictor triton:8001; try again in 2 s"):
        await harness.ensure("sales_it", within_s=0.5)
    assert harness.decisions("refuse")[0][0] == "sales_it"
    triton.finish.set()
    await asyncio.gather(*callers)


async def test_an_unreachable_triton_is_reported_at_once_and_found_when_it_is_back(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.away = True
    harness = PlacementHarness(catalog, triton)
    with pytest.raises(Unavailable, match="predictor at triton:8001 does not answer: connection refused"):
        await harness.ensure()
    triton.away = False
    assert await harness.ensure() == HERE


async def test_a_triton_that_is_removed_during_a_load_is_no_failure_of_the_model(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.finish.clear()
    harness = PlacementHarness(catalog, triton)
    caller = harness.ask()
    await triton.started.wait()
    triton.away = True
    triton.finish.set()
    with pytest.raises(Unavailable):
        await caller
    triton.away = False
    assert await harness.ensure() == HERE


async def test_a_restarted_triton_is_noticed_by_the_next_caller(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton)
    await harness.ensure()
    triton.restart()
    assert await harness.ensure() == HERE
    assert triton.loads == [("sales_de", 1)] * 2


async def test_a_new_triton_does_not_inherit_for_what_the_old_one_could_not_load(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.refuses["sales_de", 1] = "out of memory"
    harness = PlacementHarness(catalog, triton)
    with pytest.raises(LoadFailed):
        await harness.ensure()
    triton.refuses.clear()
    triton.away = True
    await harness.look()
    triton.away = False
    assert await harness.ensure() == HERE


async def test_a_triton_too_busy_to_answer_in_time_keeps_its_placement_for_a_while(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton)
    await harness.ensure()
    triton.busy = True
    await harness.look()
    await harness.look()
    assert harness.placed == {"sales_de": {1: HERE}}
    await harness.look()
    assert harness.placed == {}


async def test_each_model_has_its_triton_and_another_when_that_one_is_gone(catalog: Catalog) -> None:
    tritons = {address: FakeTriton(address) for address in ("a:1", "b:1", "c:1")}
    harness = PlacementHarness(catalog, *tritons.values())
    await harness.look()
    first, second, _ = (predictor.address for predictor in harness.placement.fleet.ranked("sales_de"))
    assert await harness.ensure() == (first,)
    tritons[first].away = True
    assert await harness.ensure() == (second,)


async def test_concurrent_callers_share_the_reads_of_the_index(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.loaded = {("sales_de", 1)}
    harness = PlacementHarness(catalog, triton)
    await harness.look()
    before = triton.looks
    await asyncio.gather(*(harness.ensure() for _ in range(100)))
    assert triton.looks - before <= 2
