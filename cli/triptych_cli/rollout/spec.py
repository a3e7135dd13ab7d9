"""The specification, the status and the result of a rollout, and the interface of its reporters."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from triptych_cli.rollout.analysis import Tolerances
from triptych_cli.rollout.metrics.counts import Counts
from triptych_cli.rollout.traffic_split import TrafficSplit


class ExitStatus(IntEnum):
    """The end of a rollout; the value is the exit status of the command."""

    PROMOTED = 0
    ROLLED_BACK = 1
    NOTHING_CHANGED = 2
    ABANDONED = 3


@dataclass(frozen=True)
class RolloutResult:
    """The end of a rollout, its reason, and the traffic that is written now."""

    exit_status: ExitStatus
    reason: str
    traffic: TrafficSplit


@dataclass(frozen=True)
class RolloutSpec:
    """The steps of a rollout to version `to`, with their times in seconds."""

    model: str
    to: str
    steps: tuple[int, ...]
    hold_s: float
    max_hold_s: float
    gate_timeout_s: float
    tolerances: Tolerances = field(default_factory=Tolerances)


@dataclass(frozen=True)
class RolloutStatus:
    """The state at one moment. `recent` holds medians in seconds of the old and the new version, oldest first."""

    phase: str
    share: int
    traffic: TrafficSplit
    old: Counts
    new: Counts
    left_s: float
    recent: tuple[tuple[float | None, float | None], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class AnalysisResult:
    """The comparison of the two versions in one step."""

    share: int
    conclusion: str  # good, worse, too few requests
    held_s: float
    old: Counts
    new: Counts
    reasons: tuple[str, ...]


class Reporter(Protocol):
    """A receiver of the events of a rollout, for a person or a program."""

    def started(self, spec: RolloutSpec, where: str, before: TrafficSplit) -> None: ...

    def progress(self, status: RolloutStatus) -> None: ...

    def step_finished(self, result: AnalysisResult) -> None: ...

    def finished(self, result: RolloutResult) -> None: ...
