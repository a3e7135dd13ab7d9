"""The interface of a target: the document or object whose traffic a rollout writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from triptych_cli.rollout.traffic_split import TrafficSplit


class TargetError(Exception):
    """The traffic could not be read or written; the text says what to do."""


class ConcurrentChange(TargetError):
    """Someone else wrote the traffic since it was read; it is left as it is."""


@dataclass(frozen=True)
class EffectiveTraffic:
    """The traffic in force now, or None if it is unknown; `reason` says why it is not the desired one."""

    traffic: TrafficSplit | None
    reason: str = ""
    refused: bool = False  # waiting will not help


class RolloutTarget(Protocol):
    """One model (or component) whose traffic is split by version (or revision)."""

    @property
    def where(self) -> str:
        """The file or the object, for messages."""

    def read(self) -> TrafficSplit:
        """Read the desired traffic. Raises `TargetError`."""

    def write(self, traffic: TrafficSplit) -> None:
        """Write the desired traffic. Raises `ConcurrentChange` if it is not the last one read or written here."""

    def check_version(self, version: str) -> None:
        """Raise `TargetError` for a version that does not exist, or cannot be served."""

    def effective_traffic(self) -> EffectiveTraffic:
        """Read the traffic in force. Raises `TargetError` if it is unknown."""

    def close(self) -> None:
        """Close the connections."""
