"""Slots are given in the order in which they were asked for, and come back in time or by age."""

from __future__ import annotations

import asyncio

from preprocess.slots import Slots

LONG_S = 60.0


class Waiter:
    """Takes a slot when it is called, or leaves it."""

    def __init__(self, slots: Slots, *, wants: bool = True) -> None:
        self.slots, self.wants, self.calls, self.has_slot = slots, wants, 0, False

    def on_slot(self) -> None:
        self.calls += 1
        self.has_slot = self.wants and self.slots.take(self)


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_there_are_as_many_slots_as_the_limit() -> None:
    slots = Slots(2, LONG_S)
    assert [slots.take(batch) for batch in "abc"] == [True, True, False]
    slots.give_back("a")
    assert [slots.take(batch) for batch in "cd"] == [True, False]


async def test_a_slot_goes_to_the_one_that_waited_longest_and_to_no_newcomer() -> None:
    slots = Slots(1, LONG_S)
    assert slots.take("a")
    first, second = Waiter(slots), Waiter(slots)
    slots.wait(first.on_slot)
    slots.wait(second.on_slot)
    slots.give_back("a")
    assert not slots.take("newcomer")
    await turn()
    assert (first.has_slot, second.has_slot) == (True, False)
    slots.give_back(first)
    await turn()
    assert second.has_slot


async def test_a_waiter_that_takes_no_slot_leaves_it_to_the_next_and_is_called_once() -> None:
    slots = Slots(1, LONG_S)
    assert slots.take("a")
    gone, next_one = Waiter(slots, wants=False), Waiter(slots)
    slots.wait(gone.on_slot)
    slots.wait(next_one.on_slot)
    slots.give_back("a")
    await turn()
    assert (gone.calls, next_one.has_slot) == (1, True)


async def test_one_that_waits_gets_the_slot_of_a_batch_that_has_had_it_for_long() -> None:
    slots = Slots(1, 0.01)
    assert slots.take("slow")
    waiter = Waiter(slots)
    slots.wait(waiter.on_slot)
    while not waiter.has_slot:
        await asyncio.sleep(0.001)
    slots.give_back("slow")  # it has none any more
    assert not slots.take("another")


async def test_slots_are_idle_once_all_were_given_back_or_lost() -> None:
    slots = Slots(2, 0.01)
    assert slots.is_idle
    assert slots.take("a")
    assert slots.take("lost")
    assert not slots.is_idle
    slots.give_back("a")
    while not slots.is_idle:
        await asyncio.sleep(0.001)
