"""Load on request: one load however many wait, none twice, none for ever, none that holds up another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from repository.catalogue.assembly import Catalogue
from tests.unit.repository.folders import declare, publish
from tests.unit.repository.tritons import Desk, FakeTriton, models_of, read, run, turn
from triptych.errors import DeadlineExceeded, LoadFailed, Overloaded, Unavailable

HERE = ("triton:8001",)


@pytest.fixture
def catalogue(models: Path) -> Catalogue:
    for name in ("sales_de", "sales_fr", "sales_it"):
        publish(models, name)
    publish(models, "sales_de", 2)
    return read(models)


def test_a_hundred_callers_wait_for_one_load(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.finish.clear()
        desk = Desk(catalogue, triton)
        callers = [desk.ask() for _ in range(100)]
        await triton.started.wait()
        triton.finish.set()
        assert set(await asyncio.gather(*callers)) == {HERE}
        assert triton.loads == [("sales_de", 1)]
        assert desk.placement == {"sales_de": {1: HERE}}

    run(test())


def test_a_caller_that_gives_up_does_not_end_the_load_for_the_others(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.finish.clear()
        desk = Desk(catalogue, triton)
        first, second = desk.ask(), desk.ask()
        await triton.started.wait()
        first.cancel()
        with pytest.raises(DeadlineExceeded, match="model 'sales_de' was not loaded before the call's deadline"):
            await desk.ensure(within_s=0.001)
        triton.finish.set()
        assert await second == HERE
        assert first.cancelled()
        assert triton.loads == [("sales_de", 1)]

    run(test())


def test_a_deadline_that_has_passed_starts_no_load(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        with pytest.raises(DeadlineExceeded):
            await Desk(catalogue, triton).ensure(within_s=-1)
        assert triton.loads == []

    run(test())


def test_what_triton_has_ready_at_the_start_is_not_loaded_again(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.loaded = {("sales_de", 1)}
        desk = Desk(catalogue, triton)
        await desk.look()
        assert desk.placement == {"sales_de": {1: HERE}}
        assert await desk.ensure() == HERE
        assert triton.loads == []

    run(test())


def test_only_the_version_that_is_asked_for_is_loaded_and_the_others_stay(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(catalogue, triton)
        await desk.ensure(version=2)
        assert triton.loaded == {("sales_de", 2)}
        await desk.ensure(version=1)
        assert triton.loads == [("sales_de", 2), ("sales_de", 1)]
        assert desk.placement == {"sales_de": {1: HERE, 2: HERE}}

    run(test())


def test_a_refusal_carries_tritons_reason_and_is_remembered_for_a_while(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.refuses["sales_de", 1] = "no such file model.onnx"
        desk = Desk(catalogue, triton, failure_ttl_s=30)
        for _ in range(3):
            with pytest.raises(LoadFailed, match="^model 'sales_de' could not be loaded: no such file model.onnx$"):
                await desk.ensure()
        assert triton.loads == [("sales_de", 1)]
        assert desk.residency.failures("sales_de", [1, 2]) == {1: "no such file model.onnx"}
        assert {"sales_de"} in desk.changed
        triton.refuses.clear()
        desk.now = 31
        assert await desk.ensure() == HERE

    run(test())


def test_a_corrupt_version_takes_no_other_version_with_it(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.refuses["sales_de", 2] = "corrupt"
        desk = Desk(catalogue, triton)
        assert await desk.ensure(version=1) == HERE
        with pytest.raises(LoadFailed, match="could not be loaded: corrupt$"):
            await desk.ensure(version=2)
        assert desk.placement == {"sales_de": {1: HERE}}

    run(test())


def test_a_mended_folder_is_tried_again_at_once(models: Path, catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.refuses["sales_de", 1] = "no such file"
        desk = Desk(catalogue, triton)
        with pytest.raises(LoadFailed):
            await desk.ensure()
        triton.refuses.clear()
        desk.residency.set_catalogue(read(models))
        assert await desk.ensure() == HERE

    run(test())


def test_a_load_that_hangs_holds_up_no_other_model(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.hangs.add("sales_de")
        desk = Desk(catalogue, triton, max_concurrent_loads=2)
        hanging = desk.ask()
        await triton.started.wait()
        assert await desk.ensure("sales_fr") == HERE
        assert await desk.ensure("sales_it") == HERE
        assert desk.residency.moves.is_loading(("sales_de", 1))
        await desk.residency.close()
        with pytest.raises(asyncio.CancelledError):
            await hanging

    run(test())


def test_loads_at_once_and_loads_that_wait_are_bounded(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.finish.clear()
        desk = Desk(catalogue, triton, max_concurrent_loads=1, max_waiting_loads=2)
        running, waiting = desk.ask("sales_de"), desk.ask("sales_fr")
        await triton.started.wait()
        await turn()
        with pytest.raises(Overloaded, match="2 models, the limit, wait to be loaded") as refusal:
            await desk.ensure("sales_it")
        assert refusal.value.retry_after_s > 0
        triton.finish.set()
        await asyncio.gather(running, waiting)
        assert triton.most_running == 1

    run(test())


def test_a_load_whose_turn_comes_after_the_deadline_is_refused_at_once(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.finish.clear()
        desk = Desk(catalogue, triton, max_concurrent_loads=1)
        callers = [desk.ask("sales_de"), desk.ask("sales_fr")]
        await triton.started.wait()
        await turn()
        with pytest.raises(Overloaded, match="2 loads are waiting at predictor triton:8001; try again in 2 s"):
            await desk.ensure("sales_it", within_s=0.5)
        assert desk.decisions("refuse")[0][0] == "sales_it"
        triton.finish.set()
        await asyncio.gather(*callers)

    run(test())


def test_a_triton_that_is_away_is_told_at_once_and_found_when_it_is_back(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.away = True
        desk = Desk(catalogue, triton)
        with pytest.raises(Unavailable, match="predictor at triton:8001 does not answer: connection refused"):
            await desk.ensure()
        triton.away = False
        assert await desk.ensure() == HERE

    run(test())


def test_a_triton_that_goes_away_during_a_load_is_no_failure_of_the_model(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.finish.clear()
        desk = Desk(catalogue, triton)
        caller = desk.ask()
        await triton.started.wait()
        triton.away = True
        triton.finish.set()
        with pytest.raises(Unavailable):
            await caller
        triton.away = False
        assert await desk.ensure() == HERE

    run(test())


def test_a_restarted_triton_is_noticed_by_the_next_caller(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(catalogue, triton)
        await desk.ensure()
        triton.restart()
        assert await desk.ensure() == HERE
        assert triton.loads == [("sales_de", 1)] * 2

    run(test())


def test_a_new_triton_is_not_blamed_for_what_the_old_one_could_not_load(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.refuses["sales_de", 1] = "out of memory"
        desk = Desk(catalogue, triton)
        with pytest.raises(LoadFailed):
            await desk.ensure()
        triton.refuses.clear()
        triton.away = True
        await desk.look()
        triton.away = False
        assert await desk.ensure() == HERE

    run(test())


def test_a_triton_too_busy_to_answer_in_time_keeps_its_placement_for_a_while(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(catalogue, triton)
        await desk.ensure()
        triton.busy = True
        await desk.look()
        await desk.look()
        assert desk.placement == {"sales_de": {1: HERE}}
        await desk.look()
        assert desk.placement == {}

    run(test())


def test_each_model_has_its_triton_and_another_when_that_one_is_gone(catalogue: Catalogue) -> None:
    async def test() -> None:
        tritons = {address: FakeTriton(address) for address in ("a:1", "b:1", "c:1")}
        desk = Desk(catalogue, *tritons.values())
        await desk.look()
        first, second, _ = (pod.address for pod in desk.residency.fleet.ranked("sales_de"))
        assert await desk.ensure() == (first,)
        tritons[first].away = True
        assert await desk.ensure() == (second,)

    run(test())


def test_callers_at_the_same_time_share_the_looks_at_the_index(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.loaded = {("sales_de", 1)}
        desk = Desk(catalogue, triton)
        await desk.look()
        before = triton.looks
        await asyncio.gather(*(desk.ensure() for _ in range(100)))
        assert triton.looks - before <= 2

    run(test())


def test_the_coldest_makes_room_and_its_room_is_free_only_when_the_index_says_so(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(catalogue, triton, max_models=2, spare_percent=0, busy_s=0)
        await desk.ensure("sales_de")
        await desk.ensure("sales_fr")
        desk.now = 10
        triton.serve(("sales_de", 1), 5)
        await desk.look()
        triton.serve(("sales_de", 1), 5)
        await desk.look()
        triton.forget.clear()
        caller = desk.ask("sales_it")
        await asyncio.sleep(0.15)
        assert models_of(triton.unloads) == ["sales_fr"]
        assert models_of(triton.loads) == ["sales_de", "sales_fr"]  # its room is not free yet
        assert "sales_fr" not in desk.placement
        triton.forget.set()
        assert await caller == HERE
        assert triton.most_held == 2
        assert desk.decisions("unload") == [("sales_fr", "room for sales_it version 1")]

    run(test())


def test_a_load_is_refused_with_a_hint_when_all_that_is_loaded_is_in_use(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(catalogue, triton, max_models=2, spare_percent=0, busy_s=8, min_residence_s=60, room_wait_s=1)
        await desk.ensure("sales_de")
        await desk.ensure("sales_fr")
        with pytest.raises(Overloaded, match=r"full of models that are in use; try again in 8 s") as refusal:
            await desk.ensure("sales_it")
        assert refusal.value.retry_after_s == 8
        assert triton.unloads == []
        desk.now = 9  # quiet for long enough
        assert await desk.ensure("sales_it") == HERE

    run(test())


def test_what_is_in_use_may_be_pushed_out_once_it_has_had_its_time(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(catalogue, triton, max_models=1, spare_percent=0, busy_s=100, min_residence_s=60, room_wait_s=1)
        await desk.ensure("sales_de")
        await desk.look()
        desk.now = 59
        with pytest.raises(Overloaded, match="try again in 1 s"):
            await desk.ensure("sales_fr", within_s=0.01)
        desk.now = 61
        assert await desk.ensure("sales_fr") == HERE

    run(test())


def test_a_full_triton_of_pins_says_that_it_needs_more_room(models: Path, documents: Path) -> None:
    for name in ("sales_de", "sales_fr"):
        publish(models, name)
    declare(documents, "sales_fr", {1: 100}, pin=True)

    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(read(models, documents), triton, max_models=1, spare_percent=0, busy_s=0)
        await desk.look()
        assert triton.loads == [("sales_fr", 1)]
        with pytest.raises(Overloaded, match="full of models that are to stay loaded; give it more room or add one"):
            await desk.ensure("sales_de")
        assert triton.unloads == []

    run(test())


def test_a_model_larger_than_every_budget_fails_with_both_figures(models: Path, documents: Path) -> None:
    publish(models, "sales_de")
    declare(documents, "sales_de", {1: 100}, residency="memory: 4Gi")

    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(read(models, documents), triton, max_bytes=1 << 30)
        with pytest.raises(LoadFailed, match=r"takes 4294967296 bytes \(declared\), and no predictor .* 1073741824"):
            await desk.ensure()
        assert triton.loads == []

    run(test())


def test_room_is_counted_in_bytes_too(models: Path, documents: Path) -> None:
    for name in ("sales_de", "sales_fr", "sales_it"):
        publish(models, name)
        declare(documents, name, {1: 100}, residency="memory: 400Mi")

    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(read(models, documents), triton, max_bytes=1 << 30, spare_percent=0, busy_s=0)
        for name in ("sales_de", "sales_fr", "sales_it"):
            desk.now += 1
            await desk.ensure(name)
        assert models_of(triton.unloads) == ["sales_de"]
        assert triton.most_held == 2

    run(test())


def test_a_call_that_waits_for_a_version_keeps_it_from_being_taken_away(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.finish.clear()
        desk = Desk(catalogue, triton, max_models=1, spare_percent=0, busy_s=0, room_wait_s=0.2)
        first = desk.ask("sales_de")
        await triton.started.wait()
        with pytest.raises(Overloaded):
            await desk.ensure("sales_fr")
        triton.finish.set()
        assert await first == HERE
        assert triton.unloads == []

    run(test())


def test_more_hot_models_than_fit_do_not_push_each_other_out_in_a_circle(models: Path) -> None:
    names = [f"sales_{chr(97 + number)}{chr(97 + number)}" for number in range(8)]
    for name in names:
        publish(models, name)

    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(read(models), triton, max_models=4, spare_percent=0, busy_s=3, min_residence_s=30, room_wait_s=0)
        refused = answered = 0
        for second in range(120):  # every model is asked for once a second
            desk.now = float(second)
            for name in names:
                try:
                    await desk.ensure(name)
                    answered += 1
                except Overloaded:
                    refused += 1
        assert len(triton.loads) <= 4 * (120 / 30 + 1)
        assert answered > 0.45 * 120 * len(names)
        assert refused + answered == 120 * len(names)

    run(test())
