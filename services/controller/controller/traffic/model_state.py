"""How a model is served at this moment, as opposed to how it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelState:
    """Of one model, for the status of its document."""

    traffic: Mapping[int, int]  # percent by version, in force now
    ready: Mapping[int, tuple[str, ...]]  # addresses of the Tritons that have the version ready
    failures: Mapping[int, str]  # why the last load failed, by version not loaded well since
    held_back: Mapping[int, str]  # why a version does not have the share yet that it was asked to have
    desired_replicas: int  # Tritons that are to hold the model now
    failing: Mapping[int, str] = field(default_factory=dict)  # why a version that is ready cannot run
    trying: frozenset[int] = frozenset()  # versions that are loaded at this moment, or will be without being asked for
