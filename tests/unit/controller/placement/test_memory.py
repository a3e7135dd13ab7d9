"""Bytes of a version: measured before declared before estimated, and measured only if the figure is reliable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.placement.policy.eviction import Capacity
from controller.placement.policy.memory import SETTLE_S, MemoryMeter, MemorySizes, Size
from controller.placement.predictors.gpu_memory import GpuMemory
from controller.placement.settings import PlacementSettings
from tests.fakes.triton import FakeTriton
from tests.unit.controller.placement.harness import PlacementHarness, read

A, B, C = ("a", 1), ("b", 1), ("c", 1)
GB = 10**9

Publish = Callable[..., Path]


def sizes(factor: float = 1.5, base: int = 100) -> MemorySizes:
    return MemorySizes(PlacementSettings(estimate_factor=factor, estimate_base_bytes=base))


def test_the_measurement_precedes_the_declaration_and_that_the_estimate() -> None:
    memory = sizes()
    assert memory.size(A, 0, 1000) == Size(1600, "estimated")
    assert memory.size(A, 700, 1000) == Size(700, "declared")
    memory.record(A, 900)
    assert memory.size(A, 700, 1000) == Size(900, "measured")
    assert memory.size(B, 700, 1000) == Size(700, "declared")


def test_the_largest_measurement_is_kept() -> None:
    memory = sizes()
    for grown in (900, 800, 0, -50):
        memory.record(A, grown)
    assert memory.size(A, 0, 0) == Size(900, "measured")


def test_a_measurement_is_dropped_with_its_model() -> None:
    memory = sizes()
    memory.record(A, 900)
    memory.record(B, 900)
    memory.prune({"b": None})
    assert (memory.size(A, 0, 0).source, memory.size(B, 0, 0).source) == ("estimated", "measured")


@given(st.integers(0, 10**12), st.floats(0, 10), st.integers(0, 10**9))
def test_the_estimate_follows_its_stated_rule(file_bytes: int, factor: float, base: int) -> None:
    size = sizes(factor, base).size(A, 0, file_bytes)
    assert size == Size(int(file_bytes * factor) + base, "estimated")


class Clocked:
    """A meter that observes every second."""

    def __init__(self) -> None:
        self.meter, self.now_s = MemoryMeter(), 1000.0

    def scan(self, *ready: tuple[str, int], used: int, seconds: int = 1, settled: bool = True) -> list[object]:
        """Figures of so many readings."""
        reported = []
        for _ in range(seconds):
            self.now_s += 1
            reported.append(self.meter.observe(frozenset(ready), used, self.now_s, settled=settled))
        return [each for each in reported if each]


SETTLED = int(SETTLE_S) + 1


def test_the_memory_of_a_version_is_the_growth_between_two_idle_periods() -> None:
    clocked = Clocked()
    assert clocked.scan(A, used=5 * GB, seconds=SETTLED) == []
    assert clocked.scan(A, used=6 * GB, settled=False) == []
    assert clocked.scan(A, B, used=6 * GB, seconds=SETTLED - 1) == []
    assert clocked.scan(A, B, used=7 * GB, seconds=SETTLED) == [(B, 2 * GB)]


def test_the_memory_before_is_that_of_the_last_idle_observation() -> None:
    """Requests make a Triton's memory grow too, and that growth belongs to no version."""
    clocked = Clocked()
    clocked.scan(A, used=5 * GB, seconds=SETTLED)
    clocked.scan(A, used=6 * GB)
    assert clocked.scan(A, B, used=7 * GB, seconds=SETTLED) == [(B, GB)]


@pytest.mark.parametrize("after", [(A, B, C), (B,), (A,), (B, C), ()])
def test_nothing_is_measured_unless_one_version_was_loaded_and_none_unloaded(
    after: tuple[tuple[str, int], ...],
) -> None:
    clocked = Clocked()
    clocked.scan(A, used=GB, seconds=SETTLED)
    assert clocked.scan(*after, used=3 * GB, seconds=2 * SETTLED) == []


def test_the_first_idle_period_measures_nothing() -> None:
    assert Clocked().scan(A, used=GB, seconds=3 * SETTLED) == []


def test_a_load_or_unload_in_between_restarts_the_idle_period() -> None:
    clocked = Clocked()
    clocked.scan(A, used=GB, seconds=SETTLED)
    for _ in range(3):
        assert clocked.scan(A, B, used=3 * GB, seconds=SETTLED - 2) == []
        assert clocked.scan(A, B, used=4 * GB, settled=False) == []


def test_an_empty_triton_that_was_never_observed_is_not_idle_yet() -> None:
    """Memory may still include a version that was just unloaded."""
    clocked = Clocked()
    clocked.scan(used=50 * GB)
    clocked.scan(used=GB)
    assert clocked.scan(A, used=2 * GB, seconds=2 * SETTLED) == []


looks = st.lists(
    st.tuples(st.frozensets(st.sampled_from([A, B, C])), st.integers(0, 10), st.booleans(), st.integers(1, 4)),
    max_size=40,
)


@given(looks)
def test_every_measurement_is_the_difference_of_two_idle_periods(
    history: list[tuple[frozenset[tuple[str, int]], int, bool, int]],
) -> None:
    meter, now_s = MemoryMeter(), 1000.0
    since_s: float | None = None
    last: frozenset[tuple[str, int]] | None = None
    rests: list[tuple[frozenset[tuple[str, int]], int]] = []
    for ready, used, settled, later_s in history:
        now_s += later_s
        if not settled or ready != last:
            since_s = now_s
        last = ready
        reported = meter.observe(ready, used, now_s, settled=settled)
        rested = settled and since_s is not None and now_s - since_s >= SETTLE_S
        if reported:
            key, grown = reported
            assert rested
            assert rests[-1] == (ready - {key}, used - grown)
        if rested:
            rests.append((ready, used))


async def test_a_budget_that_comes_from_the_gpu_stays_when_its_metrics_do_not_answer(
    models: Path, publish: Publish
) -> None:
    """Otherwise a slow answer of the metrics would remove every limit, and Triton would run out of memory."""
    publish("sales_de")
    triton = FakeTriton()
    harness = PlacementHarness(read(models), triton, gpu_percent=50)
    triton.gpu = GpuMemory(GB, 80 * GB)
    await harness.look()
    assert harness.placement.state.budget(harness.predictor()) == Capacity(bytes=40 * GB)
    triton.gpu = None
    await harness.look()
    assert harness.placement.state.budget(harness.predictor()) == Capacity(bytes=40 * GB)
