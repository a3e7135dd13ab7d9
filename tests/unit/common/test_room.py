"""Bytes that are held at once: what has room, what has not, and what is on its way in through Envoy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.contract.scripted.settings import Settings
from triptych.door.envoy import Exchange
from triptych.errors import DeadlineExceeded, Overloaded
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

    def __init__(self, room: Room, **settings: Any) -> None:
        self.goes_on = asyncio.Event()
        self._pieces = [b"\0" + (80).to_bytes(4, "big") + bytes(10), bytes(70)]
        send: Any = None
        self.exchange = Exchange({"headers": []}, self._receive, send, Settings(**settings), room, None)

    async def _receive(self) -> dict[str, Any]:
        if len(self._pieces) == 1:
            await self.goes_on.wait()
        return {"type": "http.request", "body": self._pieces.pop(0), "more_body": bool(self._pieces)}


def test_a_message_that_comes_in_pieces_has_room_from_its_first_or_is_refused() -> None:
    async def test() -> None:
        room = Room(100)
        first, second, third = Sender(room), Sender(room), Sender(room)
        coming = asyncio.ensure_future(first.exchange.message())
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="80 bytes of requests are in hand here, and 80 more"):
            await second.exchange.message()
        first.goes_on.set()
        assert await coming == bytes(80)
        third.goes_on.set()
        assert await third.exchange.message() == bytes(80)
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


def test_a_message_that_does_not_come_to_its_end_leaves_its_room_too() -> None:
    async def test() -> None:
        sender = Sender(room := Room(100), request_timeout_s=0.05)
        with pytest.raises(DeadlineExceeded, match="did not arrive within"):
            await sender.exchange.message()
        assert room.taken_bytes == 0

    asyncio.run(test())
