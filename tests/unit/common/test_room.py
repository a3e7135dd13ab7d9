"""Bytes that are held at once: what has room, what has not, and what is on its way in through Envoy."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.scripted.settings import Settings
from triptych.door.envoy import Exchange
from triptych.door.inbox import Arriving, Pace
from triptych.errors import Overloaded
from triptych.room import Room


def test_what_is_too_much_beside_others_is_refused_until_they_have_gone() -> None:
    room = Room(100)
    room.take(60)
    with pytest.raises(Overloaded, match=r"60 bytes of requests are in hand here, and 41 more .* limit of 100"):
        room.take(41)
    room.take(40)
    room.give(60)
    room.take(60)
    assert room.taken_bytes == 100


def test_one_that_is_alone_has_room_however_large() -> None:
    room = Room(100)
    room.take(1000)
    room.give(1000)
    room.take(1000)


def test_what_was_made_already_takes_room_from_the_next() -> None:
    room = Room(100)
    room.take(10)
    room.add(200)
    with pytest.raises(Overloaded):
        room.take(1)


class Sender:
    """A caller whose message of 80 bytes comes in two pieces, the second one when it is told."""

    def __init__(self, room: Room) -> None:
        self.goes_on = asyncio.Event()
        self._pieces = [b"\0" + (80).to_bytes(4, "big") + bytes(10), bytes(70)]
        send: Any = None
        arriving = Arriving(room, ThreadPoolExecutor(1))
        self.exchange = Exchange({"headers": []}, self._receive, send, Settings(), arriving, None)

    async def _receive(self) -> dict[str, Any]:
        if len(self._pieces) == 1:
            await self.goes_on.wait()
        return {"type": "http.request", "body": self._pieces.pop(0), "more_body": bool(self._pieces)}


def test_a_message_has_room_by_what_has_arrived_and_not_by_what_it_announces() -> None:
    async def test() -> None:
        room = Room(100)
        senders = [Sender(room) for _ in range(6)]
        coming = [asyncio.ensure_future(sender.exchange.message()) for sender in senders]
        await asyncio.sleep(0)
        assert room.taken_bytes == 6 * 15
        with pytest.raises(Overloaded, match="90 bytes of requests are in hand here, and 15 more"):
            await Sender(room).exchange.message()
        for each in coming[1:]:
            each.cancel()
        await asyncio.gather(*coming[1:], return_exceptions=True)
        senders[0].goes_on.set()
        assert await coming[0] == bytes(80)
        assert room.taken_bytes == 0

    asyncio.run(test())


def test_a_caller_that_leaves_within_its_message_leaves_its_room() -> None:
    async def test() -> None:
        sender = Sender(room := Room(100))
        coming = asyncio.ensure_future(sender.exchange.message())
        await asyncio.sleep(0)
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        assert room.taken_bytes == 0

    asyncio.run(test())


def test_a_caller_that_stops_within_its_message_is_told() -> None:
    pace = Pace(Settings(min_bytes_per_s=100, slow_after_s=5, request_timeout_s=60))
    assert pace.fault(10.0, 0, 0) is None
    assert pace.fault(14.9, 0, 0) is None
    assert "want 500 bytes of the message in 5 s, got 499" in str(pace.fault(15.0, 0, 499))


def test_a_caller_that_keeps_its_pace_has_the_whole_time_for_each_message() -> None:
    pace = Pace(Settings(min_bytes_per_s=100, slow_after_s=5, request_timeout_s=12))
    assert [pace.fault(at, 0, int(at * 100)) for at in (0.0, 5.0, 10.0)] == [None] * 3
    assert "did not arrive within 12 s" in str(pace.fault(12.1, 0, 1210))
    assert pace.fault(12.2, 1, 1220) is None  # the next message


def test_a_pace_of_zero_is_any() -> None:
    pace = Pace(Settings(min_bytes_per_s=0, request_timeout_s=60))
    assert [pace.fault(at, 0, 0) for at in (1.0, 50.0)] == [None, None]
