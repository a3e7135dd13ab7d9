"""Calls of one caller do not keep those of another waiting."""

from __future__ import annotations

import asyncio
import time

from triptych.http2.backlog import TURN_S, Backlog

CALLS = 20  # of one read, each of which takes a whole turn


class Caller:
    """A connection that notes whether it is read."""

    def __init__(self) -> None:
        self.is_read = True

    def stop_reading(self) -> None:
        self.is_read = False

    def go_on_reading(self) -> None:
        self.is_read = True


class Call:
    """A call that notes its start, and takes some time at once."""

    def __init__(self, name: str, started: list[str], seconds: float = 0) -> None:
        self._name, self._started, self._seconds = name, started, seconds

    def start(self) -> None:
        self._started.append(self._name)
        end_s = time.monotonic() + self._seconds
        while time.monotonic() < end_s:
            pass


async def until(started: list[str], count: int) -> None:
    while len(started) < count:
        await asyncio.sleep(0)


async def test_calls_that_take_no_time_start_at_once_in_their_order() -> None:
    backlog, caller, started = Backlog(asyncio.get_running_loop()), Caller(), list[str]()
    names = [str(number) for number in range(100)]
    backlog.start(caller, [Call(name, started) for name in names])
    assert started == names
    assert caller.is_read
    assert caller not in backlog


async def test_a_call_of_another_caller_starts_before_the_rest_of_a_long_read() -> None:
    backlog, busy, good, started = Backlog(asyncio.get_running_loop()), Caller(), Caller(), list[str]()
    backlog.start(busy, [Call("busy", started, TURN_S) for _ in range(CALLS)])
    assert started == ["busy"]
    assert not busy.is_read
    await asyncio.sleep(0)
    backlog.start(good, [Call("good", started)])
    assert started[-1] == "good"
    assert len(started) < 5
    await until(started, CALLS + 1)
    assert busy.is_read


async def test_callers_that_are_behind_take_turns() -> None:
    backlog, started = Backlog(asyncio.get_running_loop()), list[str]()
    first, second = Caller(), Caller()
    backlog.start(first, [Call("first", started, TURN_S) for _ in range(CALLS)])
    backlog.start(second, [Call("second", started, TURN_S) for _ in range(CALLS)])
    await until(started, 2 * CALLS)
    assert all(abs(started[:count].count("first") - started[:count].count("second")) <= 2 for count in range(2 * CALLS))


async def test_a_later_read_waits_behind_an_earlier_one_of_the_same_caller() -> None:
    backlog, caller, started = Backlog(asyncio.get_running_loop()), Caller(), list[str]()
    backlog.start(caller, [Call(f"first {number}", started, TURN_S) for number in range(3)])
    backlog.start(caller, [Call("second", started)])
    await until(started, 4)
    assert started == ["first 0", "first 1", "first 2", "second"]


async def test_calls_of_a_closed_connection_never_start() -> None:
    backlog, caller, started = Backlog(asyncio.get_running_loop()), Caller(), list[str]()
    backlog.start(caller, [Call("call", started, TURN_S) for _ in range(CALLS)])
    backlog.forget(caller)
    for _ in range(3):
        await asyncio.sleep(0)
    assert started == ["call"]
    backlog.start(caller, [Call("again", started)])
    assert started == ["call", "again"]
