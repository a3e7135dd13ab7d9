"""Catalog, gate and placement together, as published to the stages."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.call_slots import CallSlots
from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog, Edit
from controller.catalog.scanner import Scanner
from controller.journal import Journal
from controller.metrics import ControllerMetrics
from controller.placement.placement import Placement
from controller.placement.settings import PlacementSettings
from controller.traffic.publisher import Publisher
from controller.traffic.watch_hub import WatchHub
from tests.fakes.triton import FakeTriton
from tests.model_folders import declare, publish
from tests.unit.controller.placement.harness import read, turn
from tests.unit.controller.traffic.watching import watch
from triptych.errors import LoadFailed, StageUnavailable
from triptych.protocol.call import Call


class PublisherHarness:
    """The controller without files and without a server."""

    def __init__(self, *tritons: FakeTriton, **limits: Any) -> None:
        metrics, self.journal, self.now = ControllerMetrics(CollectorRegistry()), Journal(), 0.0
        self.watch_hub = WatchHub(metrics, CallSlots(10, 10, "watchers"))
        self.publisher = Publisher(self.watch_hub, self.journal)
        bounds = PlacementSettings(**{"withdraw_s": 0, "warm_up": False} | limits)
        known = {triton.address: triton for triton in tritons}
        self.placement = Placement(
            known.__getitem__, bounds, metrics, self.journal, self.publisher.models_changed, lambda: self.now
        )
        self.publisher.attach(self.placement)
        self.placement.fleet.set_addresses(known)
        self.reported: list[set[str]] = []
        self.publisher.add_listener(self.reported.append)

    async def look(self, now: float | None = None) -> None:
        self.now = self.now if now is None else now
        for predictor in self.placement.fleet:
            await self.placement.reconciler.observe(predictor)
        self.placement.reconciler.reconcile()
        await turn()

    async def shares(self) -> dict[int, int]:
        """Shares of sales_de for a new watcher."""
        update = await anext(watch(self.watch_hub))
        model = next(model for model in update.models if model.name == "sales_de")
        return {version.version: version.percent for version in model.versions if version.percent}


@pytest.fixture
def two(models: Path, documents: Path) -> tuple[Path, Path]:
    for version in (1, 2):
        publish(models, "sales_de", version)
    declare(documents, "sales_de", {1: 100})
    return models, documents


async def test_aliases_are_published_as_they_are_declared_and_wait_for_no_load(two: tuple[Path, Path]) -> None:
    harness = PublisherHarness(FakeTriton())
    declare(two[1], "sales_de", {1: 100}, aliases="production: 1, gone: 9")
    harness.publisher.set_catalog(before := read(*two))
    watcher = watch(harness.watch_hub)
    assert dict((await anext(watcher)).models[0].aliases) == {"production": 1, "gone": 9}
    declare(two[1], "sales_de", {1: 100}, aliases="production: 2")
    harness.publisher.set_catalog(read(*two, before))
    assert dict((await anext(watcher)).models[0].aliases) == {"production": 2}
    await watcher.aclose()


async def test_a_new_share_comes_into_force_when_the_version_has_been_loaded(two: tuple[Path, Path]) -> None:
    triton = FakeTriton()
    harness = PublisherHarness(triton)
    harness.publisher.set_catalog(before := read(*two))
    await harness.look()
    await harness.placement.ensure_loaded("sales_de", 1, Call.within(5))
    triton.finish.clear()
    declare(two[1], "sales_de", {1: 90, 2: 10})
    harness.publisher.set_catalog(read(*two, before))
    await turn()
    assert await harness.shares() == {1: 100}
    model_state = harness.publisher.model_state("sales_de")
    assert model_state is not None
    assert model_state.held_back == {2: "it has not been loaded yet; its share comes into force when it has"}
    triton.finish.set()
    await turn()
    assert await harness.shares() == {1: 90, 2: 10}
    assert [each.reason for each in harness.journal.latest if each.action == "traffic"] == ["1:100% to 1:90% 2:10%"]
    assert harness.reported[-1] == {"sales_de"}


async def test_a_version_that_does_not_load_leaves_what_was_good_in_force_and_is_tried_again(
    two: tuple[Path, Path],
) -> None:
    triton = FakeTriton()
    triton.refuses["sales_de", 2] = "invalid graph"
    harness = PublisherHarness(triton)
    harness.publisher.set_catalog(before := read(*two))
    await harness.look()
    declare(two[1], "sales_de", {2: 100})
    harness.publisher.set_catalog(read(*two, before))
    await turn()
    assert await harness.shares() == {1: 100}
    model_state = harness.publisher.model_state("sales_de")
    assert model_state is not None
    assert model_state.failures[2].startswith("invalid graph (fails since 20")
    assert model_state.trying == frozenset()
    triton.refuses.clear()
    triton.finish.clear()
    harness.now = 31
    await harness.look()
    model_state = harness.publisher.model_state("sales_de")
    assert model_state is not None
    assert set(model_state.failures) == {2}
    assert model_state.trying == {2}
    triton.finish.set()
    await turn()
    assert await harness.shares() == {2: 100}
    model_state = harness.publisher.model_state("sales_de")
    assert model_state is not None
    assert model_state.failures == {}


async def test_a_failure_is_reported_until_a_load_has_succeeded_also_when_it_may_be_tried_again(
    two: tuple[Path, Path],
) -> None:
    triton = FakeTriton()
    triton.refuses["sales_de", 1] = "out of memory"
    harness = PublisherHarness(triton, failure_ttl_s=30)
    harness.publisher.set_catalog(read(*two))
    await harness.look()
    with pytest.raises(LoadFailed, match="out of memory"):
        await harness.placement.ensure_loaded("sales_de", 1, Call.within(5))
    for now in (1, 31, 3_000):
        await harness.look(now)
        model_state = harness.publisher.model_state("sales_de")
        assert model_state is not None
        (why,) = model_state.failures.values()
        assert re.fullmatch(
            r"out of memory \(fails since 20\d\d-\S+Z; it is tried again when it is needed, at most every 30 s\)",
            why,
        )
    triton.refuses.clear()
    await harness.placement.ensure_loaded("sales_de", 1, Call.within(5))
    model_state = harness.publisher.model_state("sales_de")
    assert model_state is not None
    assert model_state.failures == {}


async def test_a_removed_model_has_no_state_and_is_not_published(two: tuple[Path, Path]) -> None:
    harness = PublisherHarness(FakeTriton())
    harness.publisher.set_catalog(read(*two))
    harness.publisher.set_catalog(Catalog())
    assert harness.publisher.model_state("sales_de") is None
    assert not (await anext(watch(harness.watch_hub))).models


async def test_watchers_learn_what_is_refused_and_that_it_is_good_again(two: tuple[Path, Path]) -> None:
    harness = PublisherHarness(FakeTriton())
    contract = two[0] / "sales_de/2/contract.yaml"
    text = contract.read_text()
    contract.write_text("kind: Contract")
    harness.publisher.set_catalog(read(*two))
    update = await anext(watch(harness.watch_hub))
    assert [(each.model, each.version) for each in update.refused] == [("sales_de", 2)]
    assert "2/contract.yaml:1: family: is missing" in update.refused[0].reason
    contract.write_text(text)
    harness.publisher.set_catalog(read(*two))
    update = await anext(watch(harness.watch_hub))
    assert (len(update.models), len(update.refused)) == (1, 0)


async def test_a_model_without_any_valid_version_is_published_as_refused_until_it_is_gone(
    models: Path, documents: Path
) -> None:
    publish(models, "sales_de")
    (models / "sales_de/1/contract.yaml").write_text("kind: Contract")
    harness = PublisherHarness(FakeTriton())
    harness.publisher.set_catalog(read(models, documents))
    update = await anext(watch(harness.watch_hub))
    assert not update.models
    assert sorted((each.model, each.version) for each in update.refused) == [("sales_de", 0), ("sales_de", 1)]
    why = f"{models}/sales_de/1/contract.yaml:1: apiVersion: is missing"
    reasons = {each.version: each.reason for each in update.refused}
    assert reasons[0].startswith(f"no valid version; version 1: {why}")
    assert {fault.partition("\n")[0] for fault in read(models, documents).faults()} == {f"sales_de version 1: {why}"}
    harness.publisher.set_catalog(Catalog())
    assert not (await anext(watch(harness.watch_hub))).refused


async def test_watchers_learn_by_which_names_an_ignored_edit_may_be_asked_for(two: tuple[Path, Path]) -> None:
    harness = PublisherHarness(FakeTriton())
    served = read(*two)
    harness.publisher.set_catalog(served)
    edits = (Edit(None, "the configuration"), Edit(1, "the contract", "sales", "AT"))
    harness.publisher.set_catalog(replace(served, edits={"sales_de": edits}))
    (refused,) = (await anext(watch(harness.watch_hub))).refused
    assert (refused.version, refused.family, refused.route, refused.reason) == (1, "sales", "AT", "the contract")
    harness.publisher.set_catalog(served)
    assert not (await anext(watch(harness.watch_hub))).refused


async def test_a_reason_of_any_length_is_short_for_watchers() -> None:
    harness = PublisherHarness(FakeTriton())
    harness.publisher.set_catalog(Catalog(invalid={("sales_de", None): "x" * 100_000}))
    (refused,) = (await anext(watch(harness.watch_hub))).refused
    assert len(refused.reason) < 1000


async def test_a_version_that_serves_stays_when_its_files_go_and_the_new_one_fails(two: tuple[Path, Path]) -> None:
    triton = FakeTriton()
    triton.loaded = {("sales_de", 1)}
    triton.refuses["sales_de", 2] = "corrupt"
    harness, scanner, catalog = PublisherHarness(triton), Scanner(*two), Catalog()

    def read_again(before: Catalog) -> Catalog:
        scan = scanner.scan(settle=False)
        assert scan is not None
        return build_catalog(
            scan.folders, scan.documents, before, undeclared="lowest", versions_in_traffic=harness.publisher.versions
        )

    harness.publisher.set_catalog(catalog := read_again(catalog))
    await harness.look(1)
    declare(two[1], "sales_de", {2: 100})
    harness.publisher.set_catalog(catalog := read_again(catalog))
    await harness.look(2)
    shutil.rmtree(two[0] / "sales_de" / "1")
    harness.publisher.set_catalog(catalog := read_again(catalog))
    for now in range(3, 10):
        await harness.look(now)
    assert await harness.shares() == {1: 100}
    assert ("sales_de", 1) in triton.loaded


async def test_what_is_pinned_stays_loaded_while_a_new_version_fails(two: tuple[Path, Path]) -> None:
    triton = FakeTriton()
    triton.loaded = {("sales_de", 1)}
    triton.refuses["sales_de", 2] = "corrupt"
    harness = PublisherHarness(triton, idle_ttl_s=60)
    declare(two[1], "sales_de", {1: 100}, pin=True)
    harness.publisher.set_catalog(before := read(*two))
    await harness.look(1)
    declare(two[1], "sales_de", {2: 100}, pin=True)
    harness.publisher.set_catalog(read(*two, before))
    for now in range(2, 100):
        await harness.look(now)
    assert await harness.shares() == {1: 100}
    assert ("sales_de", 1) in triton.loaded


class Killed(FakeTriton):
    """A load of version 2 kills the process, which restarts empty at once."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.deaths = 0

    async def load(self, model: str, config: Any, versions: Iterable[int], timeout_s: float) -> None:
        if 2 in versions:
            self.deaths += 1
            self.restart()
            raise StageUnavailable("predictor", self.address, "connection reset")
        await super().load(model, config, versions, timeout_s)


async def test_a_version_whose_load_kills_triton_is_left_alone_for_a_while(two: tuple[Path, Path]) -> None:
    tritons = [Killed(f"{name}:1") for name in "abcd"]
    harness = PublisherHarness(*tritons, failure_ttl_s=30)
    for triton in tritons:
        triton.loaded = {("sales_de", 1)}
    harness.publisher.set_catalog(before := read(*two))
    await harness.look(1)
    declare(two[1], "sales_de", {1: 90, 2: 10})
    harness.publisher.set_catalog(read(*two, before))
    for now in range(2, 22):
        await harness.look(now)
    assert sum(triton.deaths for triton in tritons) <= 2
    assert await harness.shares() == {1: 100}


async def test_too_many_waiting_loads_keep_no_catalog_from_being_published(models: Path, documents: Path) -> None:
    for name in ("sales_de", "sales_fr"):
        publish(models, name)
    triton = FakeTriton()
    harness = PublisherHarness(triton, max_waiting_loads=1)
    harness.publisher.set_catalog(before := read(models, documents))
    await harness.look(1)
    triton.finish.clear()
    asking = asyncio.create_task(harness.placement.ensure_loaded("sales_fr", 1, Call.within(60)))
    await triton.started.wait()
    declare(documents, "sales_de", {1: 100}, pin=True)
    publish(models, "sales_it")
    harness.publisher.set_catalog(read(models, documents, before))
    names = [model.name for model in (await anext(watch(harness.watch_hub))).models]
    assert names == ["sales_de", "sales_fr", "sales_it"]
    triton.finish.set()
    await asking
    await harness.placement.close()


async def test_a_version_that_takes_over_all_traffic_gets_as_many_replicas_as_the_old_one_had(
    two: tuple[Path, Path],
) -> None:
    tritons = [FakeTriton(f"{name}:1") for name in "abc"]
    for triton in tritons:
        triton.loaded = {("sales_de", 1)}
    harness = PublisherHarness(*tritons)
    harness.publisher.set_catalog(before := read(*two))
    await harness.look(1)
    declare(two[1], "sales_de", {2: 100})
    harness.publisher.set_catalog(read(*two, before))
    for now in range(2, 6):
        await harness.look(now)
    assert await harness.shares() == {2: 100}
    assert [("sales_de", 2) in triton.loaded for triton in tritons] == [True] * 3


async def test_a_catalog_whose_publication_failed_is_published_when_it_is_passed_on_again(
    two: tuple[Path, Path],
) -> None:
    models, documents = two
    harness = PublisherHarness(FakeTriton())
    catalog, faults = read(models, documents), [ZeroDivisionError]

    def broken_once(_models: set[str]) -> None:
        if faults:
            raise faults.pop()

    harness.publisher.set_catalog(Catalog({"sales_it": replace(catalog.models["sales_de"], name="sales_it")}))
    harness.publisher.add_listener(broken_once)
    with pytest.raises(ZeroDivisionError):
        harness.publisher.set_catalog(catalog)
    harness.reported.clear()
    harness.publisher.set_catalog(catalog)
    assert harness.reported == [{"sales_de", "sales_it"}]
    harness.publisher.set_catalog(catalog)
    assert harness.reported[1:] == [set()]
