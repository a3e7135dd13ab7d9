"""The queue of the reconcile loop: what is due stays due until it is satisfied, whatever fails on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.catalog.entities import Catalog
from controller.placement import reconciler
from controller.placement.planner import Due, Evict, plan
from controller.placement.policy.popularity import VersionKey
from tests.fakes.triton import FakeTriton
from tests.model_folders import declare, publish
from tests.unit.controller.placement.harness import PlacementHarness, models_of, read, turn
from triptych.errors import Overloaded

DE, FR, IT = ("sales_de", 1), ("sales_fr", 1), ("sales_it", 1)


@pytest.fixture
def catalog(models: Path) -> Catalog:
    for name in ("sales_de", "sales_fr", "sales_it"):
        publish(models, name)
    return read(models)


@pytest.fixture
def pinned(models: Path, documents: Path) -> Catalog:
    """Three models, of which sales_de is pinned."""
    for name in ("sales_de", "sales_fr", "sales_it"):
        publish(models, name)
    declare(documents, "sales_de", {1: 100}, pin=True)
    return read(models, documents)


async def test_headroom_on_two_predictors_never_evicts_both_replicas_of_a_pin(pinned: Catalog) -> None:
    tritons = [FakeTriton("a:1"), FakeTriton("b:1")]
    tritons[0].loaded = {DE, FR}
    tritons[1].loaded = {DE, IT}
    harness = PlacementHarness(pinned, *tritons, max_models=2, headroom_percent=50, busy_s=0, min_loaded_s=0)
    harness.placement.reconciler.leads = False
    await harness.look()
    state = harness.placement.state
    for key in (FR, IT):  # so that the pin is the coldest on both
        state.popularity.record(key, 10, 1.0)
    victims = [action for action in plan(state, Due(set(), {"a:1", "b:1"})) if isinstance(action, Evict)]
    assert len(victims) == 2
    assert [victim.key for victim in victims].count(DE) == 1


async def test_a_refused_request_is_loaded_as_soon_as_there_is_capacity(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton, max_models=1, headroom_percent=0, busy_s=10, capacity_wait_s=0)
    await harness.ensure("sales_de")
    with pytest.raises(Overloaded):
        await harness.ensure("sales_fr")
    triton.restart()  # it lost its model, so there is capacity now
    harness.placement.state.desired.release(DE)
    await harness.look()
    await harness.look()
    await harness.settle()
    assert "sales_fr" in models_of(triton.loads)


async def test_what_was_due_is_tried_again_after_an_error_in_a_turn(
    pinned: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(pinned, triton)
    await harness.look()
    await harness.look()
    assert harness.placed == {"sales_de": {1: (triton.address,)}}

    def broken(*_: object) -> list[object]:
        raise ZeroDivisionError

    triton.restart()
    with monkeypatch.context() as patched:
        patched.setattr(reconciler, "plan", broken)
        await harness.placement.reconciler.observe(harness.predictor())
        await turn()
    await harness.look()
    assert harness.placed == {"sales_de": {1: (triton.address,)}}


async def test_models_are_published_again_after_an_error_of_the_publication(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton)
    await harness.look()
    published: list[set[str]] = []

    def publish_once_broken(models: set[str]) -> None:
        published.append(models)
        if len(published) == 1:
            raise ZeroDivisionError

    harness.placement.reconciler._publish = publish_once_broken
    await harness.ensure("sales_de")
    await turn()
    await harness.look()
    assert "sales_de" in published[0]
    assert any("sales_de" in models for models in published[1:])


async def test_loads_that_end_between_two_periodic_turns_keep_no_version_from_its_turn(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "KEYS_PER_TURN", 1)
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton)
    await harness.look()
    loop, tried = harness.placement.reconciler, set[VersionKey]()
    for key in (FR, IT):
        harness.placement.state.desired.use(key)
        harness.placement.state.popularity.record(key, 1, 0.0)

    def noted(state: object, due: Due, *rest: object) -> list[object]:
        tried.update(due.keys)
        return []

    monkeypatch.setattr(reconciler, "plan", noted)
    loop._unsatisfied = dict.fromkeys((FR, IT))
    for _ in range(4):
        loop.load_ended(DE, harness.predictor(), None)
        loop._unsatisfied.pop(DE, None)
        await turn()
        loop.reconcile()
    assert tried >= {FR, IT}


async def test_a_lost_replica_comes_back_when_its_version_is_in_use_again(catalog: Catalog) -> None:
    tritons = [FakeTriton("a:1"), FakeTriton("b:1")]
    for triton in tritons:
        triton.loaded = {DE}
    harness = PlacementHarness(catalog, *tritons, idle_ttl_s=0)
    await harness.look()
    harness.now = 100.0  # idle
    tritons[1].restart()
    await harness.look()
    await harness.look()
    assert harness.placed["sales_de"] == {1: ("a:1",)}
    tritons[0].serve(DE, 1)
    await harness.look()
    await harness.look()
    await harness.settle()
    assert len(harness.placed["sales_de"][1]) == 2


async def test_satisfied_versions_in_the_queue_delay_no_other(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "KEYS_PER_TURN", 2)
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton)
    harness.placement.reconciler.lead(False)
    await harness.look()
    loop = harness.placement.reconciler
    loop.replicas_changed({(f"gone_{number}", 1) for number in range(50)})
    harness.placement.state.desired.use(FR)
    harness.placement.state.popularity.record(FR, 1, 0.0)
    loop.replicas_changed({FR})
    await harness.look()
    loop.lead(True)
    await harness.look()
    await harness.settle()
    assert models_of(triton.loads) == ["sales_fr"]
    await harness.look()
    assert len(loop._unsatisfied) == 0


async def test_crashes_of_long_ago_are_forgotten(catalog: Catalog) -> None:
    history = PlacementHarness(catalog, FakeTriton()).placement.state.history
    for now in range(0, 3000, 10):
        history.record_crash(DE, float(now))
    assert history.recent_crashes(DE, 2990.0) == 3
    assert len(history._crashes[DE]) == 3


async def test_the_replicas_of_a_version_that_is_gone_everywhere_are_forgotten(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.loaded = {DE, FR}
    harness = PlacementHarness(catalog, triton)
    harness.placement.reconciler.leads = False
    await harness.look()
    harness.placement.set_catalog(Catalog({"sales_de": catalog.models["sales_de"]}))
    triton.away = True
    harness.now += reconciler.PRUNE_INTERVAL_S
    await harness.look()
    assert harness.placement.state.desired.is_tracked(DE)
    assert not harness.placement.state.desired.is_tracked(FR)
