"""One Triton's bookkeeping: versions that it has just loaded, and the use of each version."""

from __future__ import annotations

import asyncio

import pytest

from controller.placement.predictors.predictor import Predictor
from controller.placement.predictors.triton_client import MAX_BATCHED, Count, Index
from tests.fakes.triton import FakeTriton
from tests.unit.controller.placement.harness import turn

DE = ("sales_de", 1)


class SlowIndex(FakeTriton):
    """A Triton whose index has the state at the time of the call, and answers when the test allows it."""

    def __init__(self) -> None:
        super().__init__()
        self.say = asyncio.Event()
        self.say.set()

    async def index(self, *, whole: bool) -> Index:
        index = await super().index(whole=whole)
        await self.say.wait()
        return index


async def known(triton: FakeTriton) -> Predictor:
    predictor = Predictor(triton, 2, lambda predictor: None, lambda: 0.0)
    await predictor.refresh()
    return predictor


async def test_what_triton_has_just_loaded_counts_without_a_read_of_the_index() -> None:
    triton = FakeTriton()
    predictor = await known(triton)
    triton.loaded.add(DE)
    looks = triton.looks
    assert await predictor.confirm(DE)
    assert (set(predictor.ready), predictor.ready_versions("sales_de"), triton.looks) == ({DE}, {1}, looks)


async def test_a_read_that_began_before_does_not_remove_it_again_and_a_later_one_does() -> None:
    triton = SlowIndex()
    predictor = await known(triton)
    triton.say.clear()
    look = asyncio.create_task(predictor.refresh(whole=True))
    await turn()
    triton.loaded.add(DE)
    assert await predictor.confirm(DE)
    triton.say.set()
    await look
    assert predictor.ready == {DE}
    triton.loaded.discard(DE)
    await predictor.refresh()
    assert predictor.ready == frozenset()


@pytest.mark.parametrize("spoil", ["busy", "away"])
async def test_without_tritons_answer_nothing_is_confirmed(spoil: str) -> None:
    triton = FakeTriton()
    predictor = await known(triton)
    assert not await predictor.confirm(DE)
    triton.loaded.add(DE)
    setattr(triton, spoil, True)
    assert not await predictor.confirm(DE)
    assert predictor.ready == frozenset()


async def test_what_is_about_to_be_unloaded_is_not_confirmed() -> None:
    triton = FakeTriton()
    triton.loaded.add(DE)
    predictor = await known(triton)
    predictor.withdraw(DE)
    assert not await predictor.confirm(DE)
    assert predictor.ready == frozenset()


@pytest.mark.parametrize(
    ("requests", "rows", "use"),
    [
        (10, 10, 10),  # one row each
        (10, 45, 45),  # joined on the way
        (1, 256, MAX_BATCHED),  # one large one
        (10, 0, 10),  # all failed
        (0, 0, 0),
    ],
)
def test_use_follows_rows_as_far_as_they_may_be_requests_that_were_joined(requests: int, rows: int, use: int) -> None:
    before = Count(requests=5, rows=7)
    assert Count(requests=5 + requests, rows=7 + rows).use_since(before) == use


async def test_joined_requests_count_as_many_in_the_use_of_a_version() -> None:
    triton = FakeTriton()
    triton.loaded.add(DE)
    predictor = await known(triton)
    triton.requests[DE] = Count(2, rows=2)
    await predictor.count()
    triton.requests[DE] = Count(4, rows=10)
    assert await predictor.count() == {DE: 8}
