"""Replica count of a busy version: one more if requests wait, one less if it is idle enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from controller.placement.policy.replica_count import Concurrency, ReplicaCount
from controller.placement.settings import PlacementSettings
from tests.fakes.triton import FakeTriton
from tests.unit.controller.placement.harness import PlacementHarness, read

KEY = ("sales_de", 1)
SETTINGS = PlacementSettings(replicas_up_waiting=1, replicas_up_s=5, replicas_down_s=60)
WAITING, QUIET, IDLE = Concurrency(waiting=9, in_flight=9), Concurrency(waiting=0, in_flight=3), Concurrency()

Publish = Callable[..., Path]


def changes(count: ReplicaCount, busy: Concurrency, replicas: int, *moments: float) -> list[int]:
    return [count.change(KEY, replicas, busy, now_s) for now_s in moments]


def test_another_copy_comes_after_requests_have_waited_for_a_while() -> None:
    assert changes(ReplicaCount(SETTINGS), WAITING, 1, 0, 1, 4.9, 5) == [0, 0, 0, 1]


def test_after_a_change_the_time_starts_anew() -> None:
    count = ReplicaCount(SETTINGS)
    assert changes(count, WAITING, 1, 0, 5) == [0, 1]
    assert changes(count, WAITING, 2, 6, 10, 11) == [0, 0, 1]


def test_an_observation_without_a_queue_restarts_the_time() -> None:
    count = ReplicaCount(SETTINGS)
    assert changes(count, WAITING, 1, 0, 4) == [0, 0]
    assert changes(count, QUIET, 1, 4.5) == [0]
    assert changes(count, WAITING, 1, 5, 9.9, 10) == [0, 0, 1]


def test_requests_that_wait_are_spread_over_the_replicas_there_are() -> None:
    busy = Concurrency(waiting=3, in_flight=9)
    assert changes(ReplicaCount(SETTINGS), busy, 2, 0, 5) == [0, 1]
    assert changes(ReplicaCount(SETTINGS), busy, 3, 0, 5) == [0, 0]


def test_a_replica_is_removed_when_the_others_would_still_be_idle_half_of_the_time() -> None:
    assert changes(ReplicaCount(SETTINGS), Concurrency(in_flight=0.9), 3, 0, 59, 60) == [0, 0, -1]
    assert changes(ReplicaCount(SETTINGS), Concurrency(in_flight=1.0), 3, 0, 59, 60) == [0, 0, 0]


def test_the_last_copy_is_not_taken_for_being_idle() -> None:
    assert changes(ReplicaCount(SETTINGS), IDLE, 1, 0, 60, 1000) == [0, 0, 0]


def test_going_from_too_busy_to_too_idle_starts_the_time_anew() -> None:
    count = ReplicaCount(SETTINGS)
    changes(count, WAITING, 2, 0)
    assert changes(count, IDLE, 2, 4, 63, 64) == [0, 0, -1]


def test_versions_are_counted_separately_and_can_be_dropped() -> None:
    count = ReplicaCount(SETTINGS)
    assert count.change(("other", 1), 1, WAITING, 0) == 0
    assert changes(count, WAITING, 1, 4) == [0]
    assert count.change(("other", 1), 1, WAITING, 5) == 1
    count.forget(KEY)
    assert changes(count, WAITING, 1, 9, 14) == [0, 1]
    count.forget(("never seen", 1))


@given(st.floats(0, 50), st.floats(0, 50), st.integers(1, 20))
def test_a_change_is_never_taken_back_by_the_same_load(waiting: float, running: float, replicas: int) -> None:
    """The replica count does not oscillate: a load that adds a replica does not remove it again."""
    limits = PlacementSettings(replicas_up_s=0, replicas_down_s=0)
    busy = Concurrency(waiting, waiting + running)
    change = ReplicaCount(limits).change(KEY, replicas, busy, 0)
    assert replicas + change >= 1
    if change:
        assert ReplicaCount(limits).change(KEY, replicas + change, busy, 0) != -change


def test_busy_is_summed_over_the_tritons() -> None:
    assert Concurrency(1, 2) + Concurrency(0.5, 3) == Concurrency(1.5, 5)


async def served_when(
    busy: Callable[[int], bool], models: Path, publish: Publish
) -> tuple[PlacementHarness, FakeTriton, FakeTriton]:
    """Two Tritons after 19 seconds; in the busy ones 9 requests waited on the one that has the version."""
    publish("sales_de")
    first, second = FakeTriton("a:1"), FakeTriton("b:1")
    harness = PlacementHarness(read(models), first, second, replicas_up_s=5)
    await harness.look()
    await harness.ensure()
    holder = first if first.loaded else second
    for now in range(1, 20):
        harness.now = now
        if busy(now):
            holder.serve(KEY, 10, queue_s=9.0, total_s=9.0)
        await harness.look()
    return harness, first, second


async def test_two_busy_moments_with_quiet_between_them_are_not_a_while(models: Path, publish: Publish) -> None:
    """A version without requests between two observations is not busy, so its time restarts."""
    harness, _, _ = await served_when(lambda now: now in (2, 12), models, publish)
    assert harness.decisions("replicas") == []


async def test_a_version_whose_requests_keep_waiting_gets_another_triton(models: Path, publish: Publish) -> None:
    harness, first, second = await served_when(lambda now: now < 10, models, publish)
    assert harness.decisions("replicas")[0] == ("sales_de", "1 to 2: 9.0 requests wait, 9.0 in all")
    assert first.loaded == second.loaded == {KEY}
