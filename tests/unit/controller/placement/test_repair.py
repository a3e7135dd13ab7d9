"""A version that Triton reports as ready and that cannot run is loaded again, with a limit, and no other is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from controller.catalog.entities import Catalog
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.triton_client import Count
from tests.fakes.triton import HERE, FakeTriton
from tests.unit.controller.placement.harness import PlacementHarness, models_of, turn
from triptych.datatypes import Array
from triptych.errors import ContractViolation, DeadlineExceeded, Internal, ModelFailing, Overloaded

KEY = ("sales_de", 1)
DEAD = "Stub process 'sales_de_0_0' is not healthy."


def invalid(triton: FakeTriton, *, for_good: bool = False, words: str = DEAD) -> None:
    """End the version's process; the next load starts one that works, unless `for_good`."""
    loads = len(triton.loads)

    def answer(key: VersionKey, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        if key == KEY and (for_good or len(triton.loads) == loads):
            raise Internal(f"predictor at {triton.address}: INTERNAL: {words}", words)
        return {"y": tensors["x"]}

    triton.answer = answer


def count(triton: FakeTriton, good: int, bad: int, key: VersionKey = KEY) -> None:
    """Count so many more requests of callers."""
    old = triton.requests.get(key, Count())
    triton.requests[key] = Count(requests=old.requests + good + bad, failures=old.failures + bad)


async def checked(harness: PlacementHarness) -> None:
    """Observe once, and wait for the checks that it starts and their results."""
    await harness.look()
    while harness.placement.reconciler.repair._checks:
        await asyncio.sleep(0.01)
    await harness.settle()


def reloads(harness: PlacementHarness) -> list[str]:
    return [name for name, reason in harness.decisions("load") if reason.startswith("cannot run")]


async def loaded(catalog: Catalog, **limits: float) -> tuple[PlacementHarness, FakeTriton]:
    triton = FakeTriton()
    harness = PlacementHarness(catalog, triton, **limits)
    await harness.ensure("sales_de")
    await harness.ensure("sales_fr")
    await harness.look()
    return harness, triton


async def test_a_version_that_answers_only_with_failures_is_loaded_anew_and_no_other(catalog: Catalog) -> None:
    harness, triton = await loaded(catalog)
    invalid(triton)
    count(triton, 0, 2)
    count(triton, 5, 0, ("sales_fr", 1))
    await checked(harness)
    assert reloads(harness) == []
    count(triton, 0, 1)
    await checked(harness)
    assert reloads(harness) == ["sales_de"]
    assert models_of(triton.unloads) == ["sales_de"]
    assert harness.placed == {"sales_de": {1: HERE}, "sales_fr": {1: HERE}}
    assert harness.metrics.reloads._value.get() == 1


async def test_bad_input_of_one_caller_gets_nothing_loaded_anew(catalog: Catalog) -> None:
    """The model answers a made-up row, so the fault is in the caller's request."""
    harness, triton = await loaded(catalog)
    for _ in range(20):
        count(triton, 0, 50)
        harness.now += 1
        await checked(harness)
    assert (reloads(harness), triton.unloads) == ([], [])
    assert harness.placement.reconciler.repair.failing("sales_de", [1]) == {}


async def test_one_success_among_failures_is_enough(catalog: Catalog) -> None:
    harness, triton = await loaded(catalog)
    invalid(triton, for_good=True)
    for _ in range(5):
        count(triton, 1, 40)
        await checked(harness)
    assert (reloads(harness), triton.inferences) == ([], [])


@pytest.mark.parametrize(
    "error",
    [
        ContractViolation("predictor refused what the contract made"),
        DeadlineExceeded("predictor did not answer within 5.000 s"),
        Overloaded("the queue is full"),
        Internal("predictor: INTERNAL", "CUDA failure 2: out of memory"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_inconclusive_check_changes_nothing(catalog: Catalog, error: Exception) -> None:
    harness, triton = await loaded(catalog)

    def answer(key: VersionKey, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        raise error

    triton.answer = answer
    count(triton, 0, 3)
    await checked(harness)
    assert triton.inferences
    assert reloads(harness) == []


async def test_callers_that_find_it_wait_for_the_reload_and_sixteen_cause_one(catalog: Catalog) -> None:
    harness, triton = await loaded(catalog)
    invalid(triton)
    asked = [harness.placement.ensure_loaded(*KEY, harness.call(), HERE) for _ in range(16)]
    assert await asyncio.gather(*asked) == [HERE] * 16
    assert reloads(harness) == ["sales_de"]
    assert len(triton.inferences) == 1


async def test_a_stage_that_is_wrong_gets_nothing_loaded_anew(catalog: Catalog) -> None:
    harness, triton = await loaded(catalog)
    for _ in range(3):
        assert await harness.placement.ensure_loaded(*KEY, harness.call(), (*HERE, "elsewhere:8001")) == HERE
    assert triton.unloads == []


async def test_the_end_of_the_old_process_is_not_waited_for(catalog: Catalog) -> None:
    harness, triton = await loaded(catalog)
    invalid(triton)
    triton.forget.clear()  # the old one stays in the state UNLOADING
    assert await harness.placement.ensure_loaded(*KEY, harness.call(), HERE) == HERE


async def test_where_another_triton_has_it_no_request_is_refused(catalog: Catalog) -> None:
    tritons = [FakeTriton("a:8001"), FakeTriton("b:8001")]
    harness = PlacementHarness(catalog, *tritons, reload_backoff_s=100, reload_backoff_max_s=100)
    for triton in tritons:
        triton.loaded.add(KEY)
    await harness.look()
    invalid(tritons[0], for_good=True)
    await harness.placement.ensure_loaded(*KEY, harness.call(), ["a:8001"])
    await harness.settle()
    found = await harness.placement.ensure_loaded(*KEY, harness.call(), ["a:8001"])
    await turn()
    assert "b:8001" in found
    assert await harness.placement.ensure_loaded(*KEY, harness.call(), ["a:8001"])
    assert tritons[1].unloads == []


async def test_reloads_that_do_not_help_get_rarer_and_pause_in_the_end(catalog: Catalog) -> None:
    harness, triton = await loaded(
        catalog, reload_backoff_s=1, reload_backoff_max_s=4, reload_tries=4, reload_pause_s=100
    )
    invalid(triton, for_good=True)
    times = []
    for _ in range(1000):
        before = len(reloads(harness))
        count(triton, 0, 10)
        await checked(harness)
        if len(reloads(harness)) > before:
            times.append(harness.now)
        harness.now += 0.25
    waits = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert waits[:3] == [pytest.approx(wait, abs=0.5) for wait in (1, 2, 4)]
    assert all(wait >= 100 for wait in waits[3:])
    assert DEAD in harness.placement.reconciler.repair.failing("sales_de", [1])[1]
    assert harness.metrics.failing._value.get() == 1
    with pytest.raises(ModelFailing, match="cannot run; it is loaded anew in") as refusal:
        await harness.placement.ensure_loaded(*KEY, harness.call(), HERE)
    assert 0 < refusal.value.retry_after_s <= 100


async def test_a_version_that_runs_again_is_as_good_as_any(catalog: Catalog) -> None:
    harness, triton = await loaded(catalog, reload_tries=1, reload_pause_s=1000)
    for _ in range(4):
        invalid(triton)
        assert await harness.placement.ensure_loaded(*KEY, harness.call(), HERE) == HERE
        count(triton, 1, 0)
        harness.now += 100
        await checked(harness)
        assert harness.placement.reconciler.repair.failing("sales_de", [1]) == {}
    assert len(reloads(harness)) == 4


async def test_a_removed_triton_leaves_no_state(catalog: Catalog) -> None:
    harness, triton = await loaded(catalog, reload_backoff_s=100, reload_backoff_max_s=100)
    invalid(triton, for_good=True)
    await harness.placement.ensure_loaded(*KEY, harness.call(), HERE)
    count(triton, 0, 3)
    harness.now += 200
    await checked(harness)
    harness.placement.reconciler.repair.forget(triton.address)
    assert harness.placement.reconciler.repair.failing("sales_de", [1]) == {}
    assert harness.metrics.failing._value.get() == 0


async def test_a_version_is_not_ready_when_it_runs_nowhere(catalog: Catalog) -> None:
    """kserve#1791, triton#8604: a model that answers only with errors is reported as READY."""
    tritons = [FakeTriton("a:8001"), FakeTriton("b:8001")]
    harness = PlacementHarness(catalog, *tritons, reload_backoff_s=1000, reload_backoff_max_s=1000)
    for triton in tritons:
        triton.loaded.add(KEY)
        invalid(triton, for_good=True)
    await harness.look()
    broken_ones: list[str] = []
    for triton in tritons:
        for _ in range(2):  # the second finds that the reload has not helped
            count(triton, 0, 3)
            await checked(harness)
        broken_ones.append(triton.address)
        runs = len(broken_ones) < len(tritons)
        assert harness.placement.serves(KEY) is runs
        assert bool(harness.placement.failing("sales_de", [1])) is not runs
