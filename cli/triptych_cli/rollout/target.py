"""Where the traffic of a rollout is written, and how it is known to be in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from triptych_cli.rollout.plan import Traffic


class TargetError(Exception):
    """The traffic could not be read or written; says what to do."""


class ChangedByOther(TargetError):
    """Someone else wrote the traffic since it was read; it is left as it is."""


@dataclass(frozen=True)
class InForce:
    """The traffic that requests meet now, None if it cannot be told; `reason` says why it is not what was asked."""

    traffic: Traffic | None
    reason: str = ""
    refused: bool = False  # it will not come by waiting


class Target(Protocol):
    """One model (or component) whose traffic is split by version (or revision)."""

    @property
    def where(self) -> str:
        """For messages: the file, or the object."""

    def read(self) -> Traffic:
        """The traffic that is asked for. Raises `TargetError`."""

    def write(self, traffic: Traffic) -> None:
        """Asks for this traffic. Raises `ChangedByOther` if it is not what was read or written here last."""

    def check(self, version: str) -> None:
        """Raises `TargetError` for a version that is not there, or cannot be served."""

    def in_force(self) -> InForce:
        """What requests meet now. Raises `TargetError` when nobody can tell."""

    def close(self) -> None:
        """Ends connections."""
