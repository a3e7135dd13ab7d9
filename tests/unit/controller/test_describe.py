"""Description of each Triton for `top` and the metrics: capacity, models with their last use, and decisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from controller.describe import describe
from controller.metrics import OUTCOMES, REASONS, ControllerMetrics
from controller.placement.policy.eviction import Capacity
from tests.fakes.triton import FakeTriton
from tests.unit.controller.placement.harness import PlacementHarness, read
from triptych.protocol import controller_pb2 as cp

Publish = Callable[..., Path]
LIMITS = {"max_models": 4, "max_bytes": 10_000, "estimate_base_bytes": 100, "estimate_factor": 0}


async def test_each_triton_is_described_with_its_capacity_and_its_models(models: Path, publish: Publish) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2)
    one, two = FakeTriton("a:1"), FakeTriton("b:1")
    one.loaded, two.away = {("sales_de", 2), ("sales_de", 1)}, True
    harness = PlacementHarness(read(models), one, two, **LIMITS)
    await harness.look()
    reply = describe(harness.placement, harness.journal, cp.Store())
    assert list(reply.predictors) == [
        cp.Predictor(address="a:1", answers=True, used_bytes=200, budget_bytes=10_000, models=2, max_models=4),
        cp.Predictor(address="b:1", budget_bytes=10_000, max_models=4),
    ]
    (loaded,) = reply.loaded_models
    assert (loaded.model, loaded.predictor, list(loaded.versions)) == ("sales_de", "a:1", [1, 2])
    assert (loaded.bytes, loaded.bytes_from, loaded.pinned) == (200, "estimated", False)


async def test_decisions_are_described_oldest_first_with_the_version(models: Path, publish: Publish) -> None:
    publish("sales_de")
    triton = FakeTriton()
    harness = PlacementHarness(read(models), triton)
    await harness.look()
    await harness.ensure()
    harness.journal.write("predictor", predictor="triton:8001", reason="went")
    load, went = describe(harness.placement, harness.journal, cp.Store()).decisions
    assert (load.action, load.model, load.predictor) == ("load", "sales_de version 1", "triton:8001")
    assert (load.reason, load.outcome) == ("request", "ok")
    assert load.time_s > 0
    assert (went.action, went.model, went.reason) == ("predictor", "", "went")


def test_a_triton_has_its_series_as_long_as_it_is_there() -> None:
    registry = CollectorRegistry()
    metrics = ControllerMetrics(registry)
    metrics.show("a:1", True, Capacity(3, 300), Capacity(4, 1000))
    metrics.show("b:1", False, Capacity(), Capacity())

    def shown(predictor: str) -> list[float | None]:
        names = ("up", "models", "models_budget", "bytes", "bytes_budget")
        return [registry.get_sample_value(f"triptych_predictor_{each}", {"predictor": predictor}) for each in names]

    assert shown("a:1") == [1, 3, 4, 300, 1000]
    assert shown("b:1") == [0, 0, 0, 0, 0]
    metrics.forget("a:1")
    metrics.forget("a:1")
    metrics.forget("never there")
    assert shown("a:1") == [None] * 5
    assert shown("b:1") == [0, 0, 0, 0, 0]


def test_outcomes_and_reasons_are_series_before_the_first_of_them() -> None:
    registry = CollectorRegistry()
    ControllerMetrics(registry)
    for outcome in OUTCOMES:
        assert registry.get_sample_value("triptych_model_loads_total", {"outcome": outcome}) == 0
    for reason in REASONS:
        assert registry.get_sample_value("triptych_model_unloads_total", {"reason": reason}) == 0


async def test_every_unload_is_counted_by_one_of_the_reasons_that_are_known(models: Path, publish: Publish) -> None:
    for name in ("sales_de", "sales_fr", "sales_it"):
        publish(name)
    triton = FakeTriton()
    triton.loaded = {("gone_de", 1), ("sales_de", 1)}
    harness = PlacementHarness(
        read(models), triton, max_models=2, headroom_percent=0, idle_ttl_s=900, min_loaded_s=0, busy_s=0
    )
    await harness.look()
    await harness.settle()
    for name in ("sales_fr", "sales_it"):
        harness.now += 10
        await harness.ensure(name)
    harness.now += 1000
    await harness.look()
    await harness.settle()
    reasons = {reason.partition(" ")[0] for _, reason in harness.decisions("unload")}
    assert reasons == {"removed", "capacity", "idle"}
    assert reasons <= set(REASONS)
