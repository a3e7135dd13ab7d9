"""Batches form under load, and a lone request is sent at once."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from preprocess.batching import Batch, Batcher, BatchLimits
from preprocess.slots import Slots
from triptych.errors import DeadlineExceeded, Unavailable

LONG_S = 60.0


@dataclass
class Request:
    name: str
    rows: int = 1
    size_bytes: int = 1


class Executions:
    """Collect batches and answer them when the test decides: with each request's name, in capitals."""

    def __init__(
        self,
        max_in_flight: int = 2,
        max_wait_s: float = LONG_S,
        max_rows: int = 100,
        max_bytes: int = 1000,
        slots: Slots | None = None,
    ) -> None:
        self.limits = BatchLimits(max_in_flight, max_wait_s, max_rows, max_bytes, slots)
        self.batches: list[list[str]] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None
        self.own_errors: dict[str, Exception] = {}
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.batcher = Batcher[Request, str](self.execute, lambda _: self.limits)

    async def execute(self, batch: Batch[Request]) -> Sequence[str | Exception]:
        self.batches.append([request.name for request in batch.requests])
        self.tasks.append(asyncio.current_task())
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return [self.own_errors.get(request.name, request.name.upper()) for request in batch.requests]

    def send(
        self,
        name: str,
        key: Hashable = "k",
        rows: int = 1,
        size_bytes: int = 1,
        timeout_s: float = LONG_S,
        linger_s: float = 0.0,
        detached: bool = False,
    ) -> asyncio.Task[str]:
        request = Request(name, rows, size_bytes)
        return asyncio.ensure_future(self.batcher.submit(key, request, timeout_s, linger_s, detached))


async def turn() -> None:
    """Run all tasks that do not wait for time."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_lone_request_is_sent_at_once_with_those_of_the_same_turn() -> None:
    executions = Executions()
    first = executions.send("a")
    await turn()
    second, third = executions.send("b"), executions.send("c")
    await turn()
    assert executions.batches == [["a"], ["b", "c"]]
    executions.go.set()
    assert list(await asyncio.gather(first, second, third)) == ["A", "B", "C"]


async def test_requests_queue_while_all_batches_are_in_flight_and_leave_together_when_one_ends() -> None:
    executions = Executions(max_in_flight=1)
    tasks = [executions.send("a")]
    await turn()
    for item in "bcd":
        tasks.append(executions.send(item))
        await turn()
    assert executions.batches == [["a"]]
    executions.go.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C", "D"]
    assert executions.batches == [["a"], ["b", "c", "d"]]


async def test_a_request_lingers_for_others_that_are_known_to_come_and_no_longer() -> None:
    executions = Executions()
    executions.go.set()
    first, second = executions.send("a", linger_s=LONG_S), executions.send("b", linger_s=LONG_S)
    await turn()
    assert executions.batches == []
    last = executions.send("c")
    assert list(await asyncio.gather(first, second, last)) == ["A", "B", "C"]
    assert executions.batches == [["a", "b", "c"]]


async def test_the_shortest_linger_of_all_that_wait_ends_the_wait() -> None:
    executions = Executions()
    executions.go.set()
    tasks = [
        executions.send("a", linger_s=LONG_S),
        executions.send("b", linger_s=0.01),
        executions.send("c", linger_s=LONG_S),
    ]
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    assert executions.batches == [["a", "b", "c"]]


async def test_a_full_batch_does_not_linger_and_requests_behind_it_still_do() -> None:
    executions = Executions(max_rows=2)
    executions.go.set()
    tasks = [executions.send(item, linger_s=LONG_S) for item in "abc"]
    await turn()
    assert executions.batches == [["a", "b"]]
    tasks.append(executions.send("d"))
    assert await asyncio.gather(*tasks) == ["A", "B", "C", "D"]
    assert executions.batches == [["a", "b"], ["c", "d"]]


async def test_a_slow_batch_delays_the_next_for_no_more_than_the_longest_wait() -> None:
    executions = Executions(max_in_flight=1, max_wait_s=0.02)
    tasks = [executions.send("a")]
    await turn()
    tasks.append(executions.send("b"))
    while len(executions.batches) < 2:
        await asyncio.sleep(0.005)
    executions.go.set()
    assert await asyncio.gather(*tasks) == ["A", "B"]


async def test_no_more_than_twice_the_limit_is_in_flight_however_long_that_takes() -> None:
    executions = Executions(max_in_flight=1, max_wait_s=0.01)
    tasks = []
    for item in "abc":
        tasks.append(executions.send(item))
        await asyncio.sleep(0.03)
    tasks.append(executions.send("d"))
    assert executions.batches == [["a"], ["b"]]
    executions.go.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C", "D"]
    assert executions.batches == [["a"], ["b"], ["c", "d"]]


async def test_a_full_batch_starts_beside_the_one_in_flight_since_waiting_would_not_make_it_larger() -> None:
    executions = Executions(max_in_flight=1, max_rows=2)
    tasks = [executions.send("a")]
    await turn()
    tasks.append(executions.send("b"))
    await turn()
    assert executions.batches == [["a"]]
    tasks += [executions.send(item) for item in "cdef"]
    await turn()
    assert executions.batches == [["a"], ["b", "c"]]  # twice the limit, and no more
    executions.go.set()
    assert await asyncio.gather(*tasks) == list("ABCDEF")
    assert executions.batches == [["a"], ["b", "c"], ["d", "e"], ["f"]]


async def test_the_expected_wait_follows_the_rate_of_batches_and_the_rows_in_the_queue() -> None:
    executions = Executions(max_in_flight=1, max_rows=3)
    tasks = [executions.send("a")]
    await turn()
    tasks.append(executions.send("b"))
    await turn()
    assert executions.batcher.expected_wait_s("k", Request("x")) == 0.0  # no batch has ended yet
    every_s = 0.05
    for item in "cd":
        await asyncio.sleep(every_s)
        executions.go.set()
        executions.go.clear()  # those that wait now go on
        await turn()
        tasks.append(executions.send(item))
        await turn()
    assert executions.batches == [["a"], ["b"], ["c"]]
    wait_s = executions.batcher.expected_wait_s("k", Request("x"))
    assert wait_s >= every_s
    assert executions.batcher.expected_wait_s("other", Request("x")) == 0.0
    tasks += [executions.send(item) for item in "efghi"]  # three go, three wait: one batch more
    await turn()
    assert executions.batches[3:] == [["d", "e", "f"]]
    assert executions.batcher.expected_wait_s("k", Request("x")) == pytest.approx(wait_s * 2)
    executions.go.set()
    await asyncio.gather(*tasks)
    assert executions.batcher.expected_wait_s("k", Request("x")) == 0.0


@pytest.mark.parametrize("limit", [{"max_rows": 4}, {"max_bytes": 4}], ids=["rows", "bytes"])
async def test_a_batch_stays_within_its_limit_and_a_larger_request_is_alone(limit: dict[str, Any]) -> None:
    executions = Executions(max_in_flight=9, **limit)
    for name, size in (("a", 2), ("b", 2), ("c", 1), ("d", 9), ("e", 1)):
        executions.send(name, rows=size if "max_rows" in limit else 1, size_bytes=size if "max_bytes" in limit else 1)
    await turn()
    assert executions.batches == [["a", "b"], ["c"], ["d"], ["e"]]
    executions.go.set()
    await turn()


async def test_requests_of_different_keys_are_never_in_one_batch() -> None:
    executions = Executions(max_in_flight=1)
    for name, key in (("a", 1), ("b", 2), ("c", 1), ("d", 2)):
        executions.send(name, key)
    await turn()
    assert executions.batches == [["a", "c"], ["b", "d"]]
    executions.go.set()
    await turn()


async def test_all_get_the_error_of_their_batch_and_the_next_batch_its_answer() -> None:
    executions = Executions(max_in_flight=1)
    executions.error = Unavailable("away")
    executions.go.set()
    for outcome in await asyncio.gather(executions.send("a"), executions.send("b"), return_exceptions=True):
        assert isinstance(outcome, Unavailable)
    executions.error = None
    assert await executions.send("c") == "C"


async def test_each_request_gets_its_own_outcome_of_the_batch() -> None:
    executions = Executions(max_in_flight=1)
    executions.own_errors["b"] = Unavailable("only b")
    executions.go.set()
    first, second = await asyncio.gather(executions.send("a"), executions.send("b"), return_exceptions=True)
    assert first == "A"
    assert str(second) == "only b"
    with pytest.raises(Unavailable, match="only b"):
        await executions.send("b")
    assert not executions.batcher.active_keys


async def test_a_deadline_ends_the_wait_and_the_request_is_in_no_batch() -> None:
    executions = Executions(max_in_flight=1)
    first = executions.send("a")
    await turn()
    hurried, gone, unhurried = executions.send("b", timeout_s=0.01), executions.send("c"), executions.send("d")
    await turn()
    gone.cancel()
    with pytest.raises(DeadlineExceeded, match=r"0\.010 s"):
        await hurried
    executions.go.set()
    assert list(await asyncio.gather(first, unhurried)) == ["A", "D"]
    assert executions.batches == [["a"], ["d"]]


async def test_nothing_is_left_of_a_key_that_is_idle() -> None:
    executions = Executions()
    executions.go.set()
    for key in range(100):
        await executions.send("a", key)
    gone = executions.send("a", "gone")
    await asyncio.sleep(0)
    gone.cancel()
    await turn()
    assert not executions.batcher.active_keys


async def test_a_request_alone_runs_in_the_task_of_its_caller_and_several_in_one_of_their_own() -> None:
    executions = Executions(max_in_flight=1)
    first = executions.send("a")
    await turn()
    others = [executions.send("b"), executions.send("c")]
    executions.go.set()
    assert await asyncio.gather(first, *others) == ["A", "B", "C"]
    assert executions.batches == [["a"], ["b", "c"]]
    assert executions.tasks[0] is first
    assert executions.tasks[1] not in (first, *others)


@pytest.mark.parametrize("key", ["k", "other"])
async def test_a_request_alone_gets_its_error_and_leaves_nothing(key: str) -> None:
    executions = Executions(max_in_flight=1)
    executions.error = Unavailable("away")
    executions.go.set()
    with pytest.raises(Unavailable, match="away"):
        await executions.send("a", key)
    assert not executions.batcher.active_keys


async def test_a_request_alone_ends_with_its_caller_and_those_that_queued_go_on() -> None:
    executions = Executions(max_in_flight=1)
    first = executions.send("a")
    await turn()
    second = executions.send("b")
    await turn()
    assert executions.batches == [["a"]]
    first.cancel()
    await turn()
    assert executions.batches == [["a"], ["b"]]
    executions.go.set()
    assert await second == "B"
    assert first.cancelled()
    assert not executions.batcher.active_keys


async def test_a_detached_request_goes_on_without_its_caller_and_counts_as_in_flight() -> None:
    executions = Executions(max_in_flight=1)
    first = executions.send("a", detached=True)
    await turn()
    second = executions.send("b")
    first.cancel()
    await turn()
    assert executions.batches == [["a"]]
    executions.go.set()
    assert await second == "B"
    assert executions.batches == [["a"], ["b"]]


@pytest.mark.parametrize("others", ["", "b", "bc"], ids=["nobody", "one", "two"])
async def test_requests_in_a_batch_with_one_whose_caller_left_in_the_same_turn_are_answered(others: str) -> None:
    executions = Executions(max_in_flight=1)
    executions.go.set()
    first = executions.send("a")
    tasks = [executions.send(item) for item in others]
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.gather(*tasks) == [item.upper() for item in others]
    await turn()
    assert executions.batches == ([list(others)] if others else [])
    assert not executions.batcher.active_keys


async def test_requests_queue_while_other_keys_have_all_slots_and_leave_together() -> None:
    executions = Executions(slots=Slots(1, LONG_S))
    tasks = [executions.send("a", key=1)]
    await turn()
    for name, key in (("b", 2), ("c", 3), ("d", 2)):
        tasks.append(executions.send(name, key))
        await turn()
    assert executions.batches == [["a"]]
    executions.go.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C", "D"]
    assert executions.batches == [["a"], ["b", "d"], ["c"]]
    assert executions.batcher.active_keys == 0


async def test_of_requests_that_come_in_one_turn_alone_with_their_keys_only_those_with_a_slot_go() -> None:
    executions = Executions(slots=Slots(2, LONG_S))
    tasks = [executions.send(name, key=name) for name in "abc"]
    await turn()
    assert executions.batches == [["a"], ["b"]]
    executions.go.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]


async def test_a_request_that_ends_while_it_waits_for_a_slot_leaves_it_to_the_next_key() -> None:
    executions = Executions(slots=Slots(1, LONG_S))
    first, left, last = (executions.send(name, key=name) for name in "abc")
    await turn()
    left.cancel()
    executions.go.set()
    assert list(await asyncio.gather(first, last)) == ["A", "C"]
    assert executions.batches == [["a"], ["c"]]
    assert executions.batcher.active_keys == 0


async def test_a_deadline_ends_the_wait_for_a_slot() -> None:
    executions = Executions(slots=Slots(1, LONG_S))
    first, late = executions.send("a", key=1), executions.send("b", key=2, timeout_s=0.01)
    with pytest.raises(DeadlineExceeded):
        await late
    executions.go.set()
    await first
    await turn()
    assert executions.batches == [["a"]]
    assert executions.batcher.active_keys == 0


async def test_a_batch_that_takes_long_loses_its_slot_to_other_keys() -> None:
    executions = Executions(slots=Slots(1, 0.01))
    tasks = [executions.send("slow", key=1)]
    await turn()
    tasks.append(executions.send("b", key=2))
    while len(executions.batches) < 2:
        await asyncio.sleep(0.001)
    assert executions.batches == [["slow"], ["b"]]
    executions.go.set()
    assert await asyncio.gather(*tasks) == ["SLOW", "B"]


async def test_a_failed_batch_gives_its_slot_back() -> None:
    executions = Executions(slots=Slots(1, LONG_S))
    executions.error = Unavailable("gone")
    executions.go.set()
    for key in (1, 2):  # alone, and then two together
        tasks = [executions.send(name, key) for name in "ab"[:key]]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * key
    executions.error = None
    assert await executions.send("c", key=3) == "C"


async def test_the_expected_wait_of_a_new_key_counts_the_keys_that_wait_for_a_slot() -> None:
    executions = Executions(slots=Slots(1, LONG_S))
    tasks = [executions.send(name, key=name) for name in "abcde"]
    every_s = 0.05
    for _ in range(3):
        await asyncio.sleep(every_s)
        executions.go.set()
        executions.go.clear()
        await turn()
    assert executions.batches == [["a"], ["b"], ["c"], ["d"]]
    assert executions.batcher.expected_wait_s("new", Request("x")) >= every_s  # one waits
    executions.go.set()
    await asyncio.gather(*tasks)
    assert executions.batcher.expected_wait_s("new", Request("x")) == 0.0
