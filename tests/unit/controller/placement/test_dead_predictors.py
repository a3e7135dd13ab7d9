"""Predictors that are gone and have not been observed since, as in a large fleet."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controller.catalog.entities import Catalog
from controller.placement import reconciler
from controller.placement.reconciler import OBSERVATIONS_PER_S
from tests.fakes.triton import FakeTriton
from tests.model_folders import declare, publish
from tests.unit.controller.placement.harness import PlacementHarness, read, turn


@pytest.fixture
def catalog(models: Path) -> Catalog:
    for name in ("sales_de", "sales_fr"):
        publish(models, name)
    return read(models)


def ranked(harness: PlacementHarness, model: str) -> list[str]:
    return [predictor.address for predictor in harness.placement.fleet.ranked(model)]


async def test_a_request_is_loaded_although_three_predictors_died_unnoticed(catalog: Catalog) -> None:
    harness = PlacementHarness(catalog, *(FakeTriton(f"{name}:1") for name in "abcd"))
    await harness.look()
    harness.now += 20.0
    *dead, last = ranked(harness, "sales_de")
    for address in dead:
        harness.tritons[address].away = True
    assert await harness.ensure("sales_de") == (last,)
    assert harness.placement.state.history.recent_crashes(("sales_de", 1), harness.now) == 0


async def test_a_predictor_that_misses_an_observation_is_observed_again_soon(catalog: Catalog) -> None:
    harness = PlacementHarness(catalog, *(FakeTriton(f"p{number}:1") for number in range(200)))
    await harness.look()
    loop, predictor = harness.placement.reconciler, harness.predictor("p0:1")
    assert loop._interval_s(predictor, 1.0) == 8.0
    harness.tritons["p0:1"].busy_looks = 1
    await loop.observe(predictor)
    assert predictor.stale
    assert predictor.available
    assert loop._interval_s(predictor, 1.0) == 1.0


async def test_a_predictor_with_a_new_version_is_observed_as_often_as_one_with_traffic(catalog: Catalog) -> None:
    harness = PlacementHarness(catalog, *(FakeTriton(f"p{number}:1") for number in range(200)))
    await harness.look()
    loop = harness.placement.reconciler
    (address,) = await harness.ensure("sales_de")
    await loop.observe(harness.predictor(address))
    assert loop._interval_s(harness.predictor(address), 1.0) == 200 / OBSERVATIONS_PER_S
    harness.now += 60.0
    await loop.observe(harness.predictor(address))
    assert loop._interval_s(harness.predictor(address), 1.0) == 8.0


async def test_a_pin_is_loaded_elsewhere_at_once_when_its_predictor_died_unnoticed(
    models: Path, documents: Path, catalog: Catalog
) -> None:
    declare(documents, "sales_fr", {1: 100}, pin=True)
    harness = PlacementHarness(read(models, documents), FakeTriton("a:1"), FakeTriton("b:1"))
    harness.placement.reconciler.lead(False)
    await harness.look()
    harness.now += 20.0
    dead, alive = ranked(harness, "sales_fr")
    harness.tritons[dead].away = True
    harness.placement.reconciler.lead(True)
    await turn()
    harness.placement.reconciler.reconcile()
    await turn()
    assert harness.placed == {"sales_fr": {1: (alive,)}}


async def test_a_version_counts_as_busy_until_its_next_requests_would_have_been_counted(catalog: Catalog) -> None:
    harness = PlacementHarness(catalog, FakeTriton(), busy_s=3, min_loaded_s=30)
    await harness.ensure("sales_de")
    harness.now += 4.0
    (candidate,) = harness.placement.state.candidates(harness.predictor())
    assert candidate.evictable_in_s == 0.0
    harness.predictor().observed_every_s = 5.0
    (candidate,) = harness.placement.state.candidates(harness.predictor())
    assert candidate.evictable_in_s == 1.0


async def test_a_load_shortens_the_pause_of_the_observation(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "OBSERVATIONS_PER_S", 2000)
    monkeypatch.setattr(reconciler, "QUIET_OBSERVATIONS_PER_S", 10)
    tritons = [FakeTriton(f"p{number}:1") for number in range(200)]
    harness = PlacementHarness(catalog, *tritons)
    loop, predictor = harness.placement.reconciler, harness.predictor("p0:1")
    observer = asyncio.create_task(loop._keep_observing(predictor, 0.01))
    while not tritons[0].looks:
        await turn()
    await turn()
    predictor.reserved["sales_de", 1] = harness.placement.versions.size_of(("sales_de", 1))
    async with asyncio.timeout(10.0):  # 0.1 s of a predictor with a load, and not 20 s
        while tritons[0].looks < 2:
            await asyncio.sleep(0.01)
    observer.cancel()
    await asyncio.gather(observer, return_exceptions=True)
