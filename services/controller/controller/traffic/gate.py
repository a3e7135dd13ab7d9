"""The traffic gate: a version is loaded before it takes traffic from another one. Pure.

The traffic of a document comes into force once every version in it was loaded successfully. Until then the previous
traffic stays in force; after a start without one, the largest share takes over the others. A version whose load failed
gets a share again only after a successful load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.catalog.entities import Model
from controller.placement.policy.popularity import VersionKey

WAITING = "it has not been loaded yet; its share comes into force when it has"
WAITS_FOR_OTHERS = "it is loaded, and its share comes into force with those of the versions that are not yet"

Shares = Mapping[int, int]  # percent by version


@dataclass(frozen=True)
class TrafficDecision:
    """The shares in force, the versions held back with the reason, and the versions to load now."""

    in_force: Shares
    held_back: Mapping[int, str] = field(default_factory=dict)
    to_prove: frozenset[int] = frozenset()


class TrafficGate:
    """Remembers successful loads, failed loads, and the previous shares of each model."""

    def __init__(self) -> None:
        self._proven: dict[VersionKey, str] = {}  # digest of the contract of a successful load
        self._failed: set[VersionKey] = set()  # and not ready since
        self._before: dict[str, Shares] = {}

    def decide(self, model: Model, ready: Mapping[int, object], failures: Mapping[int, str]) -> TrafficDecision:
        """Decide the shares in force from the versions that are ready somewhere and those that failed to load."""
        before = self._before.get(model.name) or model.traffic_before
        before = {version: percent for version, percent in before.items() if version in model.versions}
        self._note(model, before, ready, failures)
        failed = {version for version in model.versions if (model.name, version) in self._failed}
        fallback = _fallback_version(model, failed)
        waiting = {
            version
            for version in model.in_traffic
            if version in failed
            or (self._gains(model, version, before, fallback) and not self._is_proven(model, version))
        }
        if not waiting:
            self._before[model.name] = model.traffic
            return TrafficDecision(model.traffic)
        shares = _interim_shares(model, before, waiting, ready, failed, fallback)
        if not before or all(self._is_proven(model, version) for version, percent in shares.items() if percent):
            self._before[model.name] = shares
        held = {
            version: failures.get(version, WAITING if version in waiting else WAITS_FOR_OTHERS)
            for version in sorted(model.in_traffic)
            if shares.get(version, 0) < model.traffic[version]
        }
        return TrafficDecision(shares, held, frozenset(held.keys() & waiting - failures.keys()))

    def prune(self, known: Mapping[str, object]) -> None:
        """Drop the state of models that are gone."""
        self._proven = {key: digest for key, digest in self._proven.items() if key[0] in known}
        self._failed = {key for key in self._failed if key[0] in known}
        self._before = {name: shares for name, shares in self._before.items() if name in known}

    def _note(self, model: Model, before: Shares, ready: Mapping[int, object], failures: Mapping[int, str]) -> None:
        """Note successes and failures. A version without any share counts as proven only while it is loaded."""
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
    def _gains(model: Model, version: int, before: Shares, fallback: int | None) -> bool:
        """Whether the version would get more traffic than it has."""
        return model.traffic[version] > before.get(version, 0) if before else version != fallback

    def _is_proven(self, model: Model, version: int) -> bool:
        return self._proven.get((model.name, version)) == model.versions[version].digest


def _fallback_version(model: Model, failed: set[int]) -> int | None:
    """The version that takes all traffic after a start: the largest share, of equal ones the oldest version."""
    return max(model.in_traffic - failed, key=lambda version: (model.traffic[version], -version), default=None)


def _interim_shares(
    model: Model, before: Shares, waiting: set[int], ready: Mapping[int, object], failed: set[int], fallback: int | None
) -> Shares:
    """The shares while some versions of the document wait."""
    if shares := without(before, failed) or without(model.traffic, waiting):
        return shares
    if fallback is not None:
        return {fallback: 100}
    others = [version for version in ready if version in model.versions and model.traffic.get(version) != 0]
    return {max(others): 100} if others else without(before, set()) or model.traffic


def without(shares: Shares, dropped: set[int]) -> dict[int, int]:
    """The shares without some versions; the largest one left gets theirs. Empty if none is left."""
    left = {version: percent for version, percent in shares.items() if version not in dropped}
    if not any(left.values()):
        return {}
    largest = max(left, key=lambda version: (left[version], version))
    left[largest] += 100 - sum(left.values())
    return left
