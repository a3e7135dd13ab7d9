"""The state of a served model, as opposed to its spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

NOT_LOADED: Final = "not loaded; it is when asked for"  # the state of a version that nothing is wrong with


@dataclass(frozen=True)
class ModelState:
    """The state of one model, for the status of its document."""

    traffic: Mapping[int, int]  # percent by version, in force now
    ready: Mapping[int, tuple[str, ...]]  # addresses of predictors that have the version ready
    failures: Mapping[int, str]  # reason of the last failed load, by version not loaded since
    held_back: Mapping[int, str]  # why a version does not have its share of the spec yet
    desired_replicas: int  # predictors that should have the model loaded
    failing: Mapping[int, str] = field(default_factory=dict)  # why a ready version cannot run
    trying: frozenset[int] = frozenset()  # versions that are being loaded, or will be without a request
