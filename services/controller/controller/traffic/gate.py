"""Which share each version really gets. A version is loaded before it takes traffic from one that is good. Pure.

What a document asks for comes into force once every version in it has been loaded well. Until then what was in force
stays; after a start, when nothing was, the largest share stands for the others. A version whose load failed has to be
loaded well before it gets a share again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.catalog.entities import Model
from controller.placement.policy.popularity import Key

WAITS = "it has not been loaded yet; its share comes into force when it has"
TOGETHER = "it is loaded, and its share comes into force with those of the versions that are not yet"

Shares = Mapping[int, int]  # percent by version


@dataclass(frozen=True)
class TrafficDecision:
    """Shares in force, the versions that have to wait for theirs with the reason, and those to be loaded now."""

    in_force: Shares
    held_back: Mapping[int, str] = field(default_factory=dict)
    to_prove: frozenset[int] = frozenset()


class TrafficGate:
    """Remembers which versions loaded well, which failed, and what was in force for each model."""

    def __init__(self) -> None:
        self._proven: dict[Key, str] = {}  # digest of the contract with which it loaded well
        self._failed: set[Key] = set()  # and was not ready since
        self._before: dict[str, Shares] = {}

    def decide(self, model: Model, ready: Mapping[int, object], failures: Mapping[int, str]) -> TrafficDecision:
        """What is in force now, given the versions that are ready somewhere and those that failed to load."""
        before = self._before.get(model.name) or model.traffic_before
        before = {version: percent for version, percent in before.items() if version in model.versions}
        self._note(model, before, ready, failures)
        lost = {version for version in model.versions if (model.name, version) in self._failed}
        lead = _lead(model, lost)
        waiting = {
            version
            for version in model.in_traffic
            if version in lost or (self._gains(model, version, before, lead) and not self._is_proven(model, version))
        }
        if not waiting:
            self._before[model.name] = model.traffic
            return TrafficDecision(model.traffic)
        shares = _meanwhile(model, before, waiting, ready, lost, lead)
        if not before or all(self._is_proven(model, version) for version, percent in shares.items() if percent):
            self._before[model.name] = shares
        held = {
            version: failures.get(version, WAITS if version in waiting else TOGETHER)
            for version in sorted(model.in_traffic)
            if shares.get(version, 0) < model.traffic[version]
        }
        to_prove = {v for v in held if v in waiting and v not in failures} if before or ready else set()
        return TrafficDecision(shares, held, frozenset(to_prove))

    def keep(self, known: Mapping[str, object]) -> None:
        """Forgets models that are gone."""
        self._proven = {key: digest for key, digest in self._proven.items() if key[0] in known}
        self._failed = {key for key in self._failed if key[0] in known}
        self._before = {name: shares for name, shares in self._before.items() if name in known}

    def _note(self, model: Model, before: Shares, ready: Mapping[int, object], failures: Mapping[int, str]) -> None:
        """A version that has no share and is asked to have none is good only as long as it is loaded."""
        for number, version in model.versions.items():
            key = (model.name, number)
            if number in ready:
                self._proven[key] = version.digest
                self._failed.discard(key)
            elif number in failures:
                self._proven.pop(key, None)
                self._failed.add(key)
            elif not (model.traffic.get(number) or before.get(number)):
                self._proven.pop(key, None)

    @staticmethod
    def _gains(model: Model, version: int, before: Shares, lead: int | None) -> bool:
        """Whether the version would get traffic that it does not have."""
        return model.traffic[version] > before.get(version, 0) if before else version != lead

    def _is_proven(self, model: Model, version: int) -> bool:
        return self._proven.get((model.name, version)) == model.versions[version].digest


def _lead(model: Model, lost: set[int]) -> int | None:
    """The version that stands for all after a start: the largest share, of equal ones the oldest version."""
    return max(model.in_traffic - lost, key=lambda version: (model.traffic[version], -version), default=None)


def _meanwhile(
    model: Model, before: Shares, waiting: set[int], ready: Mapping[int, object], lost: set[int], lead: int | None
) -> Shares:
    """The shares while some versions of those asked for have to wait."""
    if shares := without(before, lost) or without(model.traffic, waiting):
        return shares
    if lead is not None:
        return {lead: 100}
    others = [version for version in ready if version in model.versions and model.traffic.get(version) != 0]
    return {max(others): 100} if others else without(before, set()) or model.traffic


def without(shares: Shares, dropped: set[int]) -> dict[int, int]:
    """The shares with those of some versions given to the largest that is left; empty if none is left."""
    left = {version: percent for version, percent in shares.items() if version not in dropped}
    if not any(left.values()):
        return {}
    largest = max(left, key=lambda version: (left[version], version))
    left[largest] += 100 - sum(left.values())
    return left
