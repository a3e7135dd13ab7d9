"""Loads: one however many wait, none twice, none for ever, and none that holds up another."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from repository.board import Placement
from repository.catalogue import Catalogue, assemble
from repository.metrics import RepositoryMetrics
from repository.residency import Limits, Residency, rendezvous
from repository.scan import Scanner
from repository.triton import Ready
from tests.unit.repository.folders import declare, publish
from triptych.call import Call
from triptych.errors import DeadlineExceeded, LoadFailed, Overloaded, StageUnavailable, Unavailable


class FakeTriton:
    """A Triton that loads what its disk has, once `finish` is set, and can be refused, hung and restarted."""

    def __init__(self, address: str = "triton:8001") -> None:
        self.address = address
        self.disk: dict[str, set[int]] = {"sales_de": {1}, "sales_fr": {1}, "sales_it": {1}}
        self.loaded: set[tuple[str, int]] = set()
        self.loads: list[str] = []
        self.running = 0
        self.most_running = 0
        self.looks = 0
        self.refuses: dict[str, str] = {}
        self.corrupt: set[str] = set()
        self.hangs: set[str] = set()
        self.away = False
        self.busy = False
        self.finish = asyncio.Event()
        self.finish.set()
        self.started = asyncio.Event()

    async def ready(self) -> Ready:
        self.looks += 1
        self._answer()
        return frozenset(self.loaded)

    async def reason(self, model: str, version: int) -> str:
        self._answer()
        return self.refuses.get(f"{model}/{version}", "")

    async def load(self, model: str, timeout_s: float, config: Any = None) -> None:
        self._answer()
        self.loads.append(model)
        versions = set(self.disk[model])
        if config is not None:
            versions &= set(config.version_policy.specific.versions)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.started.set()
        try:
            await (asyncio.Event() if model in self.hangs else self.finish).wait()
        finally:
            self.running -= 1
        self._answer()
        if model in self.refuses:
            raise LoadFailed(model, self.refuses[model])
        if bad := [version for version in sorted(versions) if f"{model}/{version}" in self.corrupt]:
            states = " ".join(f"version {version} is at UNAVAILABLE state: corrupt;" for version in bad)
            raise LoadFailed(model, f"load failed for model '{model}': {states}")
        self.loaded |= {(model, v) for v in versions if f"{model}/{v}" not in self.refuses}

    async def close(self) -> None: ...

    def restart(self) -> None:
        self.loaded.clear()

    def _answer(self) -> None:
        if self.away:
            raise StageUnavailable("triton", self.address, "connection refused")
        if self.busy:
            raise DeadlineExceeded(f"triton at {self.address} did not answer within 5.000 s")


class Desk:
    """Residency over fakes, with a clock that a test moves and the placement that it has told last."""

    def __init__(self, *tritons: FakeTriton, **limits: Any) -> None:
        self.now = 0.0
        self.placement: Placement = {}
        self.metrics = RepositoryMetrics(CollectorRegistry(), [triton.address for triton in tritons])
        self.residency = Residency(tritons, Limits(**limits), self.metrics, self._placed, lambda: self.now)

    async def ensure(self, model: str = "sales_de", version: int = 1, within_s: float = 60.0) -> tuple[str, ...]:
        return await self.residency.ensure_loaded(model, version, Call.within(within_s))

    def ask(self, model: str = "sales_de", version: int = 1) -> asyncio.Task[tuple[str, ...]]:
        return asyncio.create_task(self.ensure(model, version))

    def _placed(self, placement: Placement) -> None:
        self.placement = placement


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


async def turn() -> None:
    """Lets everything that can run without waiting for an event do so."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
def catalogue(models: Path, documents: Path) -> Catalogue:
    """Three models; sales_it is pinned."""
    for name in ("sales_de", "sales_fr", "sales_it"):
        publish(models, name)
    declare(documents, "sales_it", {1: 100}, pin=True)
    return read(models, documents)


def read(models: Path, documents: Path | None = None) -> Catalogue:
    scan = Scanner(models, documents).look(settle=False)
    assert scan is not None
    return assemble(scan.folders, scan.documents, Catalogue(), serve_undeclared=True)


def test_a_hundred_callers_wait_for_one_load() -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.finish.clear()
        desk = Desk(triton)
        callers = [desk.ask() for _ in range(100)]
        await triton.started.wait()
        triton.finish.set()
        assert set(await asyncio.gather(*callers)) == {("triton:8001",)}
        assert triton.loads == ["sales_de"]
        assert desk.placement == {"sales_de": {1: ("triton:8001",)}}

    run(test())


def test_a_caller_that_gives_up_does_not_end_the_load_for_the_others() -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.finish.clear()
        desk = Desk(triton)
        first, second = desk.ask(), desk.ask()
        await triton.started.wait()
        first.cancel()
        with pytest.raises(DeadlineExceeded, match="model 'sales_de' was not loaded before the call's deadline"):
            await desk.ensure(within_s=0.001)
        triton.finish.set()
        assert await second == ("triton:8001",)
        assert first.cancelled()
        assert triton.loads == ["sales_de"]

    run(test())


def test_a_deadline_that_has_passed_starts_no_load() -> None:
    async def test() -> None:
        triton = FakeTriton()
        with pytest.raises(DeadlineExceeded):
            await Desk(triton).ensure(within_s=-1)
        assert triton.loads == []

    run(test())


def test_what_triton_has_ready_at_the_start_is_not_loaded_again() -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.loaded = {("sales_de", 1)}
        desk = Desk(triton)
        await desk.residency.sync()
        assert desk.placement == {"sales_de": {1: ("triton:8001",)}}
        await desk.ensure()
        assert triton.loads == []

    run(test())


def test_a_refusal_carries_tritons_reason_and_is_remembered_for_a_while(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.refuses["sales_de"] = "no such file model.onnx"
        desk = Desk(triton, failure_ttl_s=30)
        desk.residency.set_catalogue(catalogue)
        for _ in range(3):
            with pytest.raises(LoadFailed, match="^model 'sales_de' could not be loaded: no such file model.onnx$"):
                await desk.ensure()
        assert triton.loads == ["sales_de"]
        assert desk.residency.failure("sales_de", 1) == "no such file model.onnx"
        triton.refuses.clear()
        desk.now = 31
        assert await desk.ensure() == ("triton:8001",)

    run(test())


def test_a_version_that_triton_leaves_out_fails_with_its_reason_and_the_others_serve(models: Path) -> None:
    publish(models, "sales_de", 1)
    publish(models, "sales_de", 2)

    async def test() -> None:
        triton = FakeTriton()
        triton.disk["sales_de"] = {1, 2}
        triton.refuses["sales_de/2"] = "invalid graph"
        desk = Desk(triton)
        desk.residency.set_catalogue(read(models))
        with pytest.raises(LoadFailed, match="invalid graph"):
            await desk.ensure(version=2)
        assert await desk.ensure(version=1) == ("triton:8001",)
        assert triton.loads == ["sales_de"]

    run(test())


@pytest.mark.parametrize("resident", [True, False])
def test_a_corrupt_version_takes_no_other_version_with_it(models: Path, resident: bool) -> None:
    for version in (1, 2, 3):
        publish(models, "sales_de", version)

    async def test() -> None:
        triton = FakeTriton()
        triton.disk["sales_de"] = {1, 2, 3}
        triton.corrupt.add("sales_de/2")
        triton.loaded = {("sales_de", 1), ("sales_de", 3)} if resident else set()
        desk = Desk(triton)
        desk.residency.set_catalogue(read(models))
        await desk.residency.sync()
        with pytest.raises(LoadFailed, match="could not be loaded: corrupt$"):
            await desk.ensure(version=2)
        assert await desk.ensure(version=1) == ("triton:8001",)
        assert await desk.ensure(version=3) == ("triton:8001",)
        assert len(triton.loads) == (1 if resident else 2)

    run(test())


def test_a_mended_folder_is_tried_again_at_once(models: Path) -> None:
    publish(models, "sales_de")

    async def test() -> None:
        triton = FakeTriton()
        triton.refuses["sales_de"] = "no such file"
        desk = Desk(triton)
        desk.residency.set_catalogue(read(models))
        with pytest.raises(LoadFailed):
            await desk.ensure()
        triton.refuses.clear()
        desk.residency.set_catalogue(read(models))
        assert await desk.ensure() == ("triton:8001",)

    run(test())


def test_a_version_published_during_a_load_gets_a_load_of_its_own(models: Path) -> None:
    publish(models, "sales_de", 1)

    async def test() -> None:
        triton = FakeTriton()
        triton.finish.clear()
        desk = Desk(triton)
        desk.residency.set_catalogue(read(models))
        first = desk.ask()
        await triton.started.wait()
        triton.disk["sales_de"].add(2)
        publish(models, "sales_de", 2)
        desk.residency.set_catalogue(read(models))
        second = desk.ask(version=2)
        await turn()
        triton.finish.set()
        assert await first == await second == ("triton:8001",)
        assert triton.loads == ["sales_de", "sales_de"]

    run(test())


def test_a_load_that_hangs_holds_up_no_other_model() -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.hangs.add("sales_de")
        desk = Desk(triton, max_concurrent_loads=2)
        hanging = desk.ask()
        await triton.started.wait()
        assert await desk.ensure("sales_fr") == ("triton:8001",)
        assert await desk.ensure("sales_it") == ("triton:8001",)
        assert desk.residency.is_loading("sales_de")
        await desk.residency.close()
        with pytest.raises(asyncio.CancelledError):
            await hanging

    run(test())


def test_loads_at_once_and_loads_that_wait_are_bounded() -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.finish.clear()
        desk = Desk(triton, max_concurrent_loads=1, max_waiting_loads=2)
        running, waiting = desk.ask("sales_de"), desk.ask("sales_fr")
        await triton.started.wait()
        await turn()
        with pytest.raises(Overloaded, match="2 models, the limit, wait to be loaded"):
            await desk.ensure("sales_it")
        triton.finish.set()
        await asyncio.gather(running, waiting)
        assert triton.most_running == 1

    run(test())


def test_a_triton_that_is_away_is_told_at_once_and_found_when_it_is_back() -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.away = True
        desk = Desk(triton)
        with pytest.raises(Unavailable, match="triton at triton:8001 does not answer: connection refused"):
            await desk.ensure()
        triton.away = False
        assert await desk.ensure() == ("triton:8001",)

    run(test())


def test_a_triton_that_goes_away_during_a_load_is_no_failure_of_the_model() -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.finish.clear()
        desk = Desk(triton)
        caller = desk.ask()
        await triton.started.wait()
        triton.away = True
        triton.finish.set()
        with pytest.raises(Unavailable):
            await caller
        triton.away = False
        assert await desk.ensure() == ("triton:8001",)

    run(test())


def test_a_restarted_triton_is_noticed_by_the_next_look_or_the_next_caller() -> None:
    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(triton)
        await desk.ensure()
        triton.restart()
        assert await desk.ensure() == ("triton:8001",)
        assert triton.loads == ["sales_de", "sales_de"]
        triton.restart()
        await desk.residency.sync()
        assert desk.placement == {}

    run(test())


def test_a_new_triton_is_not_blamed_for_what_the_old_one_could_not_load(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.refuses["sales_de"] = "out of memory"
        desk = Desk(triton)
        desk.residency.set_catalogue(catalogue)
        with pytest.raises(LoadFailed):
            await desk.ensure()
        triton.refuses.clear()
        triton.away = True
        await desk.residency.sync()
        triton.away = False
        assert await desk.ensure() == ("triton:8001",)

    run(test())


def test_a_triton_too_busy_to_answer_in_time_keeps_its_placement_for_a_while() -> None:
    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(triton)
        await desk.ensure()
        triton.busy = True
        await desk.residency.sync()
        await desk.residency.sync()
        assert desk.placement == {"sales_de": {1: ("triton:8001",)}}
        await desk.residency.sync()
        assert desk.placement == {}

    run(test())


def test_pins_are_loaded_at_the_start_and_again_after_a_restart(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        desk = Desk(triton)
        desk.residency.set_catalogue(catalogue)
        for times in (1, 2):
            await desk.residency.sync()
            await turn()
            assert triton.loads == ["sales_it"] * times
            assert desk.placement == {"sales_it": {1: ("triton:8001",)}}
            triton.restart()

    run(test())


def test_a_pin_that_fails_is_tried_again_only_after_a_while(catalogue: Catalogue) -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.refuses["sales_it"] = "broken"
        desk = Desk(triton, failure_ttl_s=30)
        desk.residency.set_catalogue(catalogue)
        for now, loads in ((0, 1), (29, 1), (31, 2)):
            desk.now = now
            await desk.residency.sync()
            await turn()
            assert len(triton.loads) == loads

    run(test())


def test_many_pins_leave_room_for_a_callers_load(models: Path, documents: Path) -> None:
    names = [f"sales_p{number}" for number in range(20)]
    for name in (*names, "sales_de"):
        publish(models, name)
    for name in names:
        declare(documents, name, {1: 100}, pin=True)

    async def test() -> None:
        triton = FakeTriton()
        triton.disk |= {name: {1} for name in names}
        triton.finish.clear()
        desk = Desk(triton, max_concurrent_loads=1, max_waiting_loads=3)
        desk.residency.set_catalogue(read(models, documents))
        await desk.residency.sync()
        caller = desk.ask("sales_de")
        await triton.started.wait()
        await turn()
        triton.finish.set()
        assert await caller == ("triton:8001",)
        assert triton.loads.index("sales_de") == 1
        while len(desk.placement) < 21:
            await turn()
        assert len(triton.loads) == 21

    run(test())


def test_each_model_has_its_triton_and_another_when_that_one_is_gone() -> None:
    async def test() -> None:
        tritons = {address: FakeTriton(address) for address in ("a:1", "b:1", "c:1")}
        desk = Desk(*tritons.values())
        first, second, _ = rendezvous("sales_de", list(tritons))
        assert await desk.ensure() == (first,)
        tritons[first].away = True
        assert await desk.ensure() == (second,)

    run(test())


def test_a_triton_that_goes_moves_only_its_own_models() -> None:
    models = [f"model_{number}" for number in range(300)]
    before = {model: rendezvous(model, ["a:1", "b:1", "c:1"])[0] for model in models}
    after = {model: rendezvous(model, ["a:1", "c:1"])[0] for model in models}
    assert all(after[model] == before[model] for model in models if before[model] != "b:1")
    assert {list(before.values()).count(address) > 60 for address in ("a:1", "b:1", "c:1")} == {True}


def test_callers_at_the_same_time_share_the_looks_at_the_index() -> None:
    async def test() -> None:
        triton = FakeTriton()
        triton.loaded = {("sales_de", 1)}
        desk = Desk(triton)
        await desk.residency.sync()
        before = triton.looks
        await asyncio.gather(*(desk.ensure() for _ in range(100)))
        assert triton.looks - before <= 2

    run(test())
