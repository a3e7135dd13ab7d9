"""The desired state: the number of replicas of each version. The reconciler alone writes it.

Replicas come from three sources. A minimum comes from `pin` and `minReplicas` of the ServedModel, and from the traffic
gate, which lets a version be loaded before it gets a share. A use count follows requests, within `maxReplicas`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from controller.catalog.entities import Model
from controller.placement.policy.popularity import VersionKey
from controller.placement.version_facts import VersionFacts

Shares = Mapping[int, int]  # percent by version


@dataclass(frozen=True)
class TrafficChange:
    """The versions that a change of traffic touches: those with a minimum, and those that gain a share."""

    minimums: Collection[VersionKey]
    gaining: Collection[VersionKey]


class DesiredState:
    """Replicas by version. `holders` counts the predictors that have a version ready."""

    def __init__(self, versions: VersionFacts, holders: Callable[[VersionKey], int]) -> None:
        self._versions, self._holders = versions, holders
        self._required: dict[str, dict[VersionKey, int]] = {}  # by pin and minReplicas, by model
        self._gated: dict[str, frozenset[VersionKey]] = {}  # to be loaded before they get a share, by model
        self._shares: dict[str, Shares] = {}  # in force, by model
        self._used: dict[VersionKey, int] = {}  # replicas by use
        self._scaled: set[VersionKey] = set()  # of those, with more than one
        self._waiting: Counter[VersionKey] = Counter()  # calls that wait for a load

    def set_catalog(self, changed: Iterable[str]) -> set[VersionKey]:
        """Follow the catalog; `changed` are the models that are new, different or gone. Returns what is required."""
        required: set[VersionKey] = set()
        for name in changed:
            model = self._versions.model(name)
            if model is not None:
                required |= self._require(model)
                continue
            for by_model in (self._shares, self._gated, self._required):
                by_model.pop(name, None)
        return required

    def set_traffic(self, name: str, shares: Shares, gated: frozenset[int]) -> TrafficChange | None:
        """Set the shares in force and the gated versions. None when nothing changed."""
        before, before_gated = self._shares.get(name), self._gated.get(name, frozenset())
        keys = frozenset((name, version) for version in gated)
        if keys == before_gated and before == shares:
            return None
        self._shares[name] = shares
        self._gated.pop(name, None)
        if keys:
            self._gated[name] = keys
        gaining = self._share_replicas(name, before, shares) if before else set()
        model = self._versions.model(name)
        required = self._require(model) if model is not None else set()
        return TrafficChange(keys | required, gaining)

    @contextmanager
    def waiting(self, key: VersionKey) -> Iterator[None]:
        """Protect the version from eviction while a call waits for it."""
        self._waiting[key] += 1
        try:
            yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    def is_awaited(self, key: VersionKey) -> bool:
        """Whether a call waits for the version."""
        return key in self._waiting

    def is_gated(self, key: VersionKey) -> bool:
        """Whether the version has to be loaded before it gets a share."""
        return key in self._gated.get(key[0], ())

    def is_required(self, key: VersionKey) -> bool:
        """Whether `pin` or `minReplicas` asks for the version."""
        return key in self._required.get(key[0], ())

    def is_tracked(self, key: VersionKey) -> bool:
        """Whether the version has replicas by use."""
        return key in self._used

    @property
    def scaled(self) -> frozenset[VersionKey]:
        """Versions with more than one replica by use."""
        return frozenset(self._scaled)

    @property
    def minimums(self) -> set[VersionKey]:
        """Versions with a minimum, used or not."""
        groups = [*self._required.values(), *self._gated.values()]
        return {key for keys in groups for key in keys}

    def target(self, key: VersionKey) -> int:
        """Replicas that the version is to have."""
        model = self._versions.model(key[0])
        most = (model.placement.max_replicas if model else 0) or math.inf
        return int(max(self.minimum(key), min(self._used.get(key, 0), most)))

    def minimum(self, key: VersionKey) -> int:
        """Replicas that no other model may evict."""
        version = self._versions.version(key)
        removed = version is not None and version.removed and key[1] in self._shares.get(key[0], ())
        return max(self._required.get(key[0], {}).get(key, 0), int(self.is_gated(key)), int(removed))

    def use(self, key: VersionKey) -> None:
        """A request asked for the version: it is to have a replica."""
        self.scale(key, max(1, self._used.get(key, 0)))

    def adopt(self, key: VersionKey) -> None:
        """Keep the replicas that exist, for a version that this process has not loaded."""
        self.scale(key, max(self._used.get(key, 0), self._holders(key)))

    def release(self, key: VersionKey) -> None:
        """Want one replica less than there are: one is about to be evicted."""
        self.scale(key, self._holders(key) - 1)

    def scale(self, key: VersionKey, replicas: int) -> None:
        """Set the replicas by use; 0 for none."""
        if replicas > 0:
            self._used[key] = replicas
        else:
            self._used.pop(key, None)
        if replicas > 1:
            self._scaled.add(key)
        else:
            self._scaled.discard(key)

    def forget_gone(self) -> None:
        """Forget the use of versions that are neither in the catalog nor on a predictor."""
        gone = [key for key in self._used if self._versions.version(key) is None and not self._holders(key)]
        for key in gone:
            self.scale(key, 0)

    def _share_replicas(self, model: str, before: Shares, now: Shares) -> set[VersionKey]:
        """Scale versions that take over traffic by their share at once, not when requests have begun to wait."""
        replicas = max(self._holders((model, version)) for version in before)
        gaining = {(model, version) for version, percent in now.items() if percent > before.get(version, 0)}
        for key in gaining:
            self.scale(key, max(self._used.get(key, 0), math.ceil(replicas * now[key[1]] / 100)))
        return gaining

    def _require(self, model: Model) -> set[VersionKey]:
        """Require replicas of the versions that get traffic, not of those that only should."""
        self._required.pop(model.name, None)
        if not model.placement.replicas:
            return set()
        with_traffic = self._shares.get(model.name, model.in_traffic)
        required = dict.fromkeys(((model.name, version) for version in with_traffic), model.placement.replicas)
        self._required[model.name] = required
        return set(required)
