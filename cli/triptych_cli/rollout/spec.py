"""What a rollout is to do, and what is told of it on the way and at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from triptych_cli.rollout.analysis import Limits
from triptych_cli.rollout.counts import Counts
from triptych_cli.rollout.plan import Traffic


class End(IntEnum):
    """How it ended; the value is the exit status."""

    PROMOTED = 0
    ROLLED_BACK = 1
    NOTHING_CHANGED = 2
    LEFT = 3


@dataclass(frozen=True)
class Outcome:
    """How it ended, why, and what the traffic is now."""

    end: End
    reason: str
    traffic: Traffic


@dataclass(frozen=True)
class Wish:
    """What is to be done, in which times."""

    model: str
    to: str
    steps: tuple[int, ...]
    hold_s: float
    max_hold_s: float
    gate_s: float
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class View:
    """All that there is to see at one moment. `recent` are medians in seconds of the old and the new, oldest first."""

    phase: str
    share: int
    traffic: Traffic
    old: Counts
    new: Counts
    left_s: float
    recent: tuple[tuple[float | None, float | None], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of one step."""

    share: int
    verdict: str  # good, worse, too few requests
    held_s: float
    old: Counts
    new: Counts
    reasons: tuple[str, ...]


class Show(Protocol):
    """Where a person or a program sees the course."""

    def begin(self, wish: Wish, where: str, before: Traffic) -> None: ...

    def tick(self, view: View) -> None: ...

    def step(self, verdict: Verdict) -> None: ...

    def end(self, outcome: Outcome) -> None: ...
