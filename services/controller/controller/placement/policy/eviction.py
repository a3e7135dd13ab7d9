"""Choice of the versions that are evicted when a predictor lacks capacity. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from controller.placement.policy.popularity import VersionKey


@dataclass(frozen=True)
class Capacity:
    """An amount of loaded versions and of bytes, or a limit of both."""

    models: int = 0
    bytes: int = 0

    def __add__(self, other: Capacity) -> Capacity:
        return Capacity(self.models + other.models, self.bytes + other.bytes)

    def __sub__(self, other: Capacity) -> Capacity:
        """The rest after `other`, at least 0."""
        return Capacity(max(0, self.models - other.models), max(0, self.bytes - other.bytes))

    def excess_over(self, budget: Capacity) -> Capacity:
        """The part of this above a budget in which 0 is no limit."""
        return Capacity(
            max(0, self.models - budget.models) if budget.models else 0,
            max(0, self.bytes - budget.bytes) if budget.bytes else 0,
        )

    @property
    def is_zero(self) -> bool:
        return not (self.models or self.bytes)

    def share(self, percent: float) -> Capacity:
        """A percentage of a budget: at least one model of a limited number, and never all of them."""
        models = min(math.ceil(self.models * percent / 100), max(0, self.models - 1))
        return Capacity(models, int(self.bytes * percent / 100))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A loaded version that eviction may choose, the least `coldness` first.

    `evictable_in_s` is 0 for now and infinite for never.
    """

    key: VersionKey
    bytes: int
    evictable_in_s: float
    coldness: tuple[float, float]


def choose_victims(deficit: Capacity, candidates: Collection[Candidate]) -> Sequence[VersionKey] | float:
    """The coldest candidates that free the deficit.

    If they are not enough: the seconds until enough of them are evictable, infinite for never.
    """
    evictable = sorted((each for each in candidates if each.evictable_in_s <= 0), key=lambda each: each.coldness)
    victims: list[Candidate] = []
    for candidate in evictable:
        if _covers(victims, deficit):
            break
        victims.append(candidate)
    if not _covers(victims, deficit):
        return _wait_s(deficit, candidates)
    for victim in reversed(victims):  # a large one makes smaller, warmer ones unnecessary
        others = [each for each in victims if each is not victim]
        if _covers(others, deficit):
            victims = others
    return [each.key for each in victims]


def _covers(victims: Collection[Candidate], deficit: Capacity) -> bool:
    return len(victims) >= deficit.models and sum(each.bytes for each in victims) >= deficit.bytes


def _wait_s(deficit: Capacity, candidates: Collection[Candidate]) -> float:
    evictable: list[Candidate] = []
    for each in sorted(candidates, key=lambda each: each.evictable_in_s):
        evictable.append(each)
        if _covers(evictable, deficit):
            return each.evictable_in_s
    return math.inf
