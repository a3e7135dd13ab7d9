"""Who has to go when something is to be loaded. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from controller.placement.policy.popularity import Key


@dataclass(frozen=True)
class Room:
    """An amount of room, or a limit of it: loaded versions and bytes."""

    models: int = 0
    bytes: int = 0

    def __add__(self, other: Room) -> Room:
        return Room(self.models + other.models, self.bytes + other.bytes)

    def lacks(self, budget: Room) -> Room:
        """How much this is over a budget in which 0 is no limit."""
        return Room(
            max(0, self.models - budget.models) if budget.models else 0,
            max(0, self.bytes - budget.bytes) if budget.bytes else 0,
        )

    @property
    def nothing(self) -> bool:
        return not (self.models or self.bytes)

    def share(self, percent: float) -> Room:
        """So many percent of a budget: at least one model of a limited number, and never all of them."""
        models = min(math.ceil(self.models * percent / 100), max(0, self.models - 1))
        return Room(models, int(self.bytes * percent / 100))


@dataclass(frozen=True)
class Occupant:
    """A loaded version that might go. `goes_in_s` is 0 for now, infinite for never; `coldness` is sorted by."""

    key: Key
    bytes: int
    goes_in_s: float
    coldness: tuple[float, float]


def make_room(lack: Room, occupants: Collection[Occupant]) -> Sequence[Key] | float:
    """The coldest that free what lacks; or the seconds until enough may go, infinite if they never will."""
    candidates = sorted((each for each in occupants if each.goes_in_s <= 0), key=lambda each: each.coldness)
    chosen: list[Occupant] = []
    for candidate in candidates:
        if _covers(chosen, lack):
            break
        chosen.append(candidate)
    if not _covers(chosen, lack):
        return _wait_s(lack, occupants)
    for candidate in reversed(chosen):  # a large one makes smaller, warmer ones unnecessary
        without = [each for each in chosen if each is not candidate]
        if _covers(without, lack):
            chosen = without
    return [each.key for each in chosen]


def _covers(chosen: Collection[Occupant], lack: Room) -> bool:
    return len(chosen) >= lack.models and sum(each.bytes for each in chosen) >= lack.bytes


def _wait_s(lack: Room, occupants: Collection[Occupant]) -> float:
    may_go: list[Occupant] = []
    for each in sorted(occupants, key=lambda each: each.goes_in_s):
        may_go.append(each)
        if _covers(may_go, lack):
            return each.goes_in_s
    return math.inf
