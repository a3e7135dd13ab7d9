"""The plan: pure functions of the state, whose actions do not conflict."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from controller.catalog.entities import Catalog
from controller.placement import planner
from controller.placement.planner import Due, Evict, Load, Refuse, plan, plan_request
from controller.placement.policy.eviction import Candidate, Capacity
from controller.placement.predictors.predictor import Predictor
from controller.traffic import publisher
from tests.fakes.triton import FakeTriton
from tests.model_folders import declare, publish
from tests.unit.controller.placement.harness import PlacementHarness, read, turn

PLACEMENT = Path(planner.__file__).parent
WRITES = {"set_catalog", "set_traffic", "waiting", "use", "adopt", "release", "scale", "forget_gone"}
DE, FR = ("sales_de", 1), ("sales_fr", 1)


async def observed(catalog: Catalog, *tritons: FakeTriton, leads: bool = False, **settings: float) -> PlacementHarness:
    """Placement that has observed each predictor once and, unless it leads, has not acted on it."""
    harness = PlacementHarness(catalog, *tritons, **settings)
    harness.placement.reconciler.leads = leads
    await harness.look()
    return harness


async def test_a_plan_changes_nothing_and_is_the_same_a_second_time(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.loaded = {DE, FR, ("gone", 1)}
    harness = await observed(catalog, triton, max_models=3, headroom_percent=40, busy_s=0, min_loaded_s=0)
    due = Due({DE}, {triton.address})
    first = plan(harness.placement.state, due)
    await turn()
    assert plan(harness.placement.state, due) == first
    assert first[0] == Evict(("gone", 1), triton.address, "removed from the catalog")
    assert harness.placement.state.in_progress.unloads == {}
    assert (triton.loads, triton.unloads) == ([], [])


async def test_two_idle_replicas_are_not_evicted_in_one_plan_when_one_is_to_stay(models: Path, documents: Path) -> None:
    publish(models, "sales_de")
    declare(documents, "sales_de", {1: 100}, pin=True)
    tritons = [FakeTriton("a:1"), FakeTriton("b:1")]
    for triton in tritons:
        triton.loaded = {DE}
    harness = await observed(read(models, documents), *tritons, idle_ttl_s=10)
    harness.now = 100.0
    actions = plan(harness.placement.state, Due(set(), {"a:1", "b:1"}))
    assert len(actions) == 1


async def test_loads_of_one_plan_do_not_take_the_same_capacity(models: Path, documents: Path) -> None:
    for name in ("sales_de", "sales_fr", "sales_it"):
        publish(models, name)
        declare(documents, name, {1: 100}, pin=True)
    harness = await observed(read(models, documents), FakeTriton(), max_models=2, max_concurrent_loads=8)
    state = harness.placement.state
    actions = plan(state, Due(set(state.desired.minimums)))
    assert [action.key[0] for action in actions if isinstance(action, Load)] == ["sales_de", "sales_fr"]


async def test_no_more_loads_are_planned_for_a_predictor_than_it_has_slots(models: Path, documents: Path) -> None:
    for name in ("sales_de", "sales_fr", "sales_it"):
        publish(models, name)
        declare(documents, name, {1: 100}, pin=True)
    harness = await observed(read(models, documents), FakeTriton(), max_concurrent_loads=2)
    state = harness.placement.state
    assert len(plan(state, Due(set(state.desired.minimums)))) == 2


async def test_a_request_is_planned_as_a_load_or_as_a_refusal(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = await observed(catalog, triton, max_models=1, headroom_percent=0, busy_s=5)
    state = harness.placement.state
    assert plan_request(state, DE, max_wait_s=1, remaining_s=60) == Load(DE, triton.address, "request")
    harness.placement.reconciler.leads = True
    await harness.ensure("sales_fr")
    refused = plan_request(state, DE, max_wait_s=1, remaining_s=60)
    assert isinstance(refused, Refuse)
    assert refused.is_overload
    assert "try again in 5 s" in str(refused.error)


async def test_the_plan_of_a_request_looks_no_further_than_the_first_predictor_with_capacity(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked at each of 500 predictors, which was most of a decision's time."""
    harness = await observed(catalog, *(FakeTriton(f"t{number}:1") for number in range(50)), max_models=2)
    state = harness.placement.state
    budget, asked = state.budget, list[str]()

    def recorded(predictor: Predictor) -> Capacity:
        asked.append(predictor.address)
        return budget(predictor)

    monkeypatch.setattr(state, "budget", recorded)
    preferred = state.fleet.ranked("sales_de")[0].address
    assert plan_request(state, DE, 5.0, 60.0) == Load(DE, preferred, "request")
    assert set(asked) == {preferred}


async def test_an_eviction_starts_nothing_before_the_next_turn(catalog: Catalog) -> None:
    """A publication may want a load: it must not happen inside the eviction that caused it."""
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton)
    await harness.ensure()
    await turn()
    harness.changed.clear()
    harness.unload("sales_de", 1, "idle for 900 s")
    assert harness.changed == []
    await turn()
    assert harness.changed[0] == {"sales_de"}


async def test_many_changes_are_published_once(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.loaded = {DE, FR}
    harness = await observed(catalog, triton, leads=True)
    harness.changed.clear()
    for model in ("sales_de", "sales_fr"):
        harness.unload(model, 1, "idle for 900 s")
    await turn()
    assert harness.changed[0] == {"sales_de", "sales_fr"}


@pytest.mark.parametrize("path", sorted(PLACEMENT.rglob("*.py")), ids=lambda path: path.stem)
def test_the_reconciler_alone_writes_the_desired_state(path: Path) -> None:
    calls = [
        node.func
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WRITES
    ]
    written = [call.attr for call in calls if isinstance(call.value, ast.Attribute) and call.value.attr == "desired"]
    assert bool(written) is (path.stem == "reconciler")


def test_the_publisher_never_writes_the_desired_state() -> None:
    assert ".desired" not in Path(publisher.__file__).read_text()


async def test_a_full_predictor_is_searched_for_victims_once_in_a_plan(
    models: Path, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 pins that find no capacity on 500 full predictors took 15 s of CPU, 0.2 s since."""
    names = [f"sales_a{second}" for second in "abcdef"]
    for name in names:
        publish(models, name)
        declare(documents, name, {1: 100}, pin=True)
    tritons = [FakeTriton("a:1"), FakeTriton("b:1")]
    for triton, name in zip(tritons, names, strict=False):
        triton.loaded = {(name, 1)}
    harness = await observed(read(models, documents), *tritons, max_models=1)
    state, searched = harness.placement.state, list[str]()
    search = state.candidates

    def noted(predictor: Predictor) -> list[Candidate]:
        searched.append(predictor.address)
        return search(predictor)

    monkeypatch.setattr(state, "candidates", noted)
    assert plan(state, Due(set(state.desired.minimums))) == []
    assert sorted(searched) == ["a:1", "b:1"]


async def test_a_version_whose_files_were_removed_is_not_rebalanced(catalog: Catalog) -> None:
    tritons = [FakeTriton("a:1"), FakeTriton("b:1")]
    harness = PlacementHarness(catalog, *tritons)
    for triton in tritons:
        triton.loaded = {DE, FR}
    harness.placement.reconciler.leads = False
    await harness.look()
    state = harness.placement.state
    harness.tritons[state.fleet.ranked("sales_de")[0].address].restart()
    await harness.look()
    state.popularity.record(DE, 1, 0.0)
    underloaded = [(state.fleet.ranked("sales_de")[0], [DE])]
    assert [action.key for action in plan(state, Due(), underloaded)] == [DE]
    model = catalog.models["sales_de"]
    versions = {1: replace(model.versions[1], removed=True)}
    harness.placement.set_catalog(Catalog({**catalog.models, "sales_de": replace(model, versions=versions)}))
    assert plan(state, Due(), underloaded) == []
