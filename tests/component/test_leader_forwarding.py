"""A replica of the controller that does not lead passes loads on, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from controller.leader_forwarding import LoadForwarder
from controller.placement.placement import Placement
from tests.component.running_controller import running
from tests.fakes.triton import FakeTriton
from tests.model_folders import publish
from tests.unit.controller.placement.harness import PlacementHarness, read
from triptych.errors import DeadlineExceeded, Unavailable
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call


class FakeLeadership:
    """The leader that a test has set."""

    def __init__(self, leader_address: str = "", in_charge: bool = False) -> None:
        self.leader_address, self.in_charge = leader_address, in_charge


@asynccontextmanager
async def follower(models: Path, leadership: FakeLeadership) -> AsyncIterator[tuple[LoadForwarder, Placement]]:
    placement = PlacementHarness(read(models), FakeTriton()).placement
    loads = LoadForwarder(placement, leadership)
    yield loads, placement
    await loads.close()
    await placement.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    publish(tmp_path / "models", "sales_fr")
    (tmp_path / "served").mkdir()
    return tmp_path


async def test_a_follower_answers_with_what_the_leader_loaded(folder: Path) -> None:
    async with running(folder) as leader, follower(folder / "models", FakeLeadership(leader.address)) as (loads, _):
        assert await loads.ensure_loaded("sales_fr", 1, Call.within(10)) == (leader.predictor,)
        assert leader.triton.loads == ["sales_fr"]


async def test_a_load_waits_for_a_leader_and_is_forwarded_to_it(folder: Path) -> None:
    leadership = FakeLeadership()
    async with running(folder) as leader, follower(folder / "models", leadership) as (loads, _):
        waiting = asyncio.create_task(loads.ensure_loaded("sales_fr", 1, Call.within(20)))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        leadership.leader_address = "127.0.0.1:1"  # a leader that has just died
        await asyncio.sleep(0.3)
        assert not waiting.done()
        leadership.leader_address = leader.address
        assert await waiting == (leader.predictor,)


async def test_a_follower_that_becomes_leader_loads_itself(folder: Path) -> None:
    leadership = FakeLeadership()
    async with follower(folder / "models", leadership) as (loads, _):
        waiting = asyncio.create_task(loads.ensure_loaded("sales_fr", 1, Call.within(20)))
        await asyncio.sleep(0.1)
        leadership.in_charge = True
        assert await waiting == ("triton:8001",)


async def test_without_a_leader_the_callers_deadline_ends_the_wait(folder: Path) -> None:
    async with follower(folder / "models", FakeLeadership()) as (loads, _):
        with pytest.raises(DeadlineExceeded):
            await loads.ensure_loaded("sales_fr", 1, Call.within(0.3))


async def test_what_was_passed_on_is_not_passed_on_again(folder: Path) -> None:
    async with follower(folder / "models", FakeLeadership("127.0.0.1:1")) as (loads, _):
        with pytest.raises(Unavailable, match="does not lead"):
            await loads.ensure_loaded("sales_fr", 1, Call.within(5), forwarded=True)


async def test_a_refusal_of_the_leader_reaches_the_caller_unchanged(folder: Path) -> None:
    publish(folder / "models", "broken_de")
    async with running(folder) as leader, follower(folder / "models", FakeLeadership(leader.address)) as (loads, _):
        with pytest.raises(Exception, match="'broken_de' could not be loaded: Triton refuses to load it") as caught:
            await loads.ensure_loaded("broken_de", 1, Call.within(10))
        assert getattr(caught.value, "code", None) is grpc.StatusCode.FAILED_PRECONDITION


async def test_ensure_loaded_over_the_wire_carries_the_mark(folder: Path) -> None:
    async with running(folder) as leader:
        leader.controller._forwarder._leader = FakeLeadership()
        request: Any = cp.EnsureLoadedRequest(model="sales_fr", version=1, forwarded=True)
        with pytest.raises(aio.AioRpcError) as caught:
            await leader.own.EnsureLoaded(request, timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
