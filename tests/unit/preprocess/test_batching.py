"""Groups form under load, and a request alone waits for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from typing import Any

import pytest

from preprocess.batching import Batcher, Limits, Pending
from triptych.errors import DeadlineExceeded, Unavailable

LONG_S = 60.0


class Runs:
    """Takes groups and answers them when the test says so: with the item, in capitals."""

    def __init__(self, slots: int = 2, age_s: float = LONG_S, rows: int = 100, size_bytes: int = 1000) -> None:
        self.limits = Limits(slots, age_s, rows, size_bytes)
        self.groups: list[list[str]] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.batcher = Batcher[str, str](self.run, lambda _: self.limits)

    async def run(self, group: Sequence[Pending[str, str]]) -> None:
        self.groups.append([pending.item for pending in group])
        self.tasks.append(asyncio.current_task())
        await self.go.wait()
        if self.error is not None:
            raise self.error
        for pending in group:
            pending.answer(pending.item.upper())

    def send(
        self,
        item: str,
        kind: Hashable = "k",
        rows: int = 1,
        size_bytes: int = 1,
        timeout_s: float = LONG_S,
        patience_s: float = 0.0,
        detached: bool = False,
    ) -> asyncio.Task[str]:
        return asyncio.ensure_future(self.batcher.submit(kind, item, rows, size_bytes, timeout_s, patience_s, detached))


async def turn() -> None:
    """Lets everything happen that needs no time."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_request_alone_leaves_at_once_and_others_of_its_turn_go_with_it() -> None:
    runs = Runs()
    first = runs.send("a")
    await turn()
    second, third = runs.send("b"), runs.send("c")
    await turn()
    assert runs.groups == [["a"], ["b", "c"]]
    runs.go.set()
    assert list(await asyncio.gather(first, second, third)) == ["A", "B", "C"]


async def test_requests_gather_while_all_slots_are_out_and_leave_together_when_one_comes_back() -> None:
    runs = Runs(slots=1)
    tasks = [runs.send("a")]
    await turn()
    for item in "bcd":
        tasks.append(runs.send(item))
        await turn()
    assert runs.groups == [["a"]]
    runs.go.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C", "D"]
    assert runs.groups == [["a"], ["b", "c", "d"]]


async def test_who_knows_of_others_to_come_waits_for_them_and_no_longer() -> None:
    runs = Runs()
    runs.go.set()
    first, second = runs.send("a", patience_s=LONG_S), runs.send("b", patience_s=LONG_S)
    await turn()
    assert runs.groups == []
    last = runs.send("c")
    assert list(await asyncio.gather(first, second, last)) == ["A", "B", "C"]
    assert runs.groups == [["a", "b", "c"]]


async def test_patience_ends_with_that_of_the_most_impatient() -> None:
    runs = Runs()
    runs.go.set()
    tasks = [runs.send("a", patience_s=LONG_S), runs.send("b", patience_s=0.01), runs.send("c", patience_s=LONG_S)]
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    assert runs.groups == [["a", "b", "c"]]


async def test_a_full_group_waits_for_nobody_and_those_behind_it_still_do() -> None:
    runs = Runs(rows=2)
    runs.go.set()
    tasks = [runs.send(item, patience_s=LONG_S) for item in "abc"]
    await turn()
    assert runs.groups == [["a", "b"]]
    tasks.append(runs.send("d"))
    assert await asyncio.gather(*tasks) == ["A", "B", "C", "D"]
    assert runs.groups == [["a", "b"], ["c", "d"]]


async def test_a_group_that_stays_out_holds_up_the_next_for_no_more_than_the_limit() -> None:
    runs = Runs(slots=1, age_s=0.02)
    tasks = [runs.send("a")]
    await turn()
    tasks.append(runs.send("b"))
    while len(runs.groups) < 2:
        await asyncio.sleep(0.005)
    runs.go.set()
    assert await asyncio.gather(*tasks) == ["A", "B"]


async def test_no_more_than_twice_the_slots_are_out_however_long_that_takes() -> None:
    runs = Runs(slots=1, age_s=0.01)
    tasks = []
    for item in "abc":
        tasks.append(runs.send(item))
        await asyncio.sleep(0.03)
    tasks.append(runs.send("d"))
    assert runs.groups == [["a"], ["b"]]
    runs.go.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C", "D"]
    assert runs.groups == [["a"], ["b"], ["c", "d"]]


async def test_the_wait_to_expect_is_told_by_how_groups_came_back_and_how_many_are_ahead() -> None:
    runs = Runs(slots=1, rows=2)
    tasks = [runs.send(item) for item in "abcdefgh"]
    await turn()
    assert runs.batcher.wait_s("k") == 0.0  # nobody knows yet
    every_s = 0.05
    for _ in range(2):
        await asyncio.sleep(every_s)
        runs.go.set()
        runs.go.clear()  # those who wait now go on
        await turn()
    assert runs.groups == [["a", "b"], ["c", "d"], ["e", "f"]]
    wait_s = runs.batcher.wait_s("k")
    assert wait_s >= 2 * every_s  # two wait, one group more
    assert runs.batcher.wait_s("other") == 0.0
    tasks += [runs.send("i"), runs.send("j")]
    await turn()
    assert runs.batcher.wait_s("k") == pytest.approx(wait_s * 3 / 2)
    runs.go.set()
    await asyncio.gather(*tasks)
    assert runs.batcher.wait_s("k") == 0.0


@pytest.mark.parametrize("limit", [{"rows": 4}, {"size_bytes": 4}], ids=["rows", "bytes"])
async def test_a_group_ends_before_its_limit_and_a_larger_request_goes_alone(limit: dict[str, int]) -> None:
    runs = Runs(slots=9, **limit)
    for item, size in (("a", 2), ("b", 2), ("c", 1), ("d", 9), ("e", 1)):
        runs.send(item, rows=size if "rows" in limit else 1, size_bytes=size if "size_bytes" in limit else 1)
    await turn()
    assert runs.groups == [["a", "b"], ["c"], ["d"], ["e"]]
    runs.go.set()
    await turn()


async def test_requests_of_different_kinds_never_meet() -> None:
    runs = Runs(slots=1)
    for item, kind in (("a", 1), ("b", 2), ("c", 1), ("d", 2)):
        runs.send(item, kind)
    await turn()
    assert runs.groups == [["a", "c"], ["b", "d"]]
    runs.go.set()
    await turn()


async def test_all_get_the_error_of_their_group_and_the_next_group_its_answer() -> None:
    runs = Runs(slots=1)
    runs.error = Unavailable("away")
    runs.go.set()
    for outcome in await asyncio.gather(runs.send("a"), runs.send("b"), return_exceptions=True):
        assert isinstance(outcome, Unavailable)
    runs.error = None
    assert await runs.send("c") == "C"


async def test_a_deadline_ends_the_wait_and_nobody_works_for_it_any_more() -> None:
    runs = Runs(slots=1)
    first = runs.send("a")
    await turn()
    hurried, gone, patient = runs.send("b", timeout_s=0.01), runs.send("c"), runs.send("d")
    await turn()
    gone.cancel()
    with pytest.raises(DeadlineExceeded, match=r"0\.010 s"):
        await hurried
    runs.go.set()
    assert list(await asyncio.gather(first, patient)) == ["A", "D"]
    assert runs.groups == [["a"], ["d"]]


async def test_nothing_is_left_of_a_kind_that_is_idle() -> None:
    runs = Runs()
    runs.go.set()
    for kind in range(100):
        await runs.send("a", kind)
    gone = runs.send("a", "gone")
    await asyncio.sleep(0)
    gone.cancel()
    await turn()
    assert not runs.batcher.kinds


async def test_a_request_alone_runs_in_the_task_of_its_caller_and_company_in_one_of_its_own() -> None:
    runs = Runs(slots=1)
    first = runs.send("a")
    await turn()
    others = [runs.send("b"), runs.send("c")]
    runs.go.set()
    assert await asyncio.gather(first, *others) == ["A", "B", "C"]
    assert runs.groups == [["a"], ["b", "c"]]
    assert runs.tasks[0] is first
    assert runs.tasks[1] not in (first, *others)


@pytest.mark.parametrize("kind", ["k", "other"])
async def test_a_request_alone_gets_its_error_and_leaves_nothing(kind: str) -> None:
    runs = Runs(slots=1)
    runs.error = Unavailable("away")
    runs.go.set()
    with pytest.raises(Unavailable, match="away"):
        await runs.send("a", kind)
    assert not runs.batcher.kinds


async def test_a_request_alone_that_is_given_up_ends_and_what_waited_for_it_goes_on() -> None:
    runs = Runs(slots=1)
    first = runs.send("a")
    await turn()
    second = runs.send("b")
    await turn()
    assert runs.groups == [["a"]]
    first.cancel()
    await turn()
    assert runs.groups == [["a"], ["b"]]
    runs.go.set()
    assert await second == "B"
    assert first.cancelled()
    assert not runs.batcher.kinds


async def test_a_detached_request_goes_on_without_its_caller_and_keeps_its_slot() -> None:
    runs = Runs(slots=1)
    first = runs.send("a", detached=True)
    await turn()
    second = runs.send("b")
    first.cancel()
    await turn()
    assert runs.groups == [["a"]]
    runs.go.set()
    assert await second == "B"
    assert runs.groups == [["a"], ["b"]]


@pytest.mark.parametrize("others", ["", "b", "bc"], ids=["nobody", "one", "two"])
async def test_whoever_joined_a_request_that_was_given_up_in_the_same_turn_is_answered(others: str) -> None:
    runs = Runs(slots=1)
    runs.go.set()
    first = runs.send("a")
    tasks = [runs.send(item) for item in others]
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.gather(*tasks) == [item.upper() for item in others]
    await turn()
    assert runs.groups == ([list(others)] if others else [])
    assert not runs.batcher.kinds
