"""What every version needs: its memory, how many copies, and when it may go. The facts behind every move."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from tritonclient.grpc import model_config_pb2 as mc

from controller.catalog.builder import Catalog, Model, Version
from controller.placement.fleet import Fleet
from controller.placement.machine_memory import is_here
from controller.placement.policy.eviction import Occupant
from controller.placement.policy.memory import Memory, Size
from controller.placement.policy.popularity import Key, Usage
from controller.placement.predictor import Pod
from controller.placement.settings import Limits
from triptych.contract import Contract


class Seals(Protocol):
    """Whether the files of versions are what was published."""

    def check(self, model: str, number: int, loaded: bool) -> str:
        """Why the version must not be loaded, '' if it may be. Asked before and after (`loaded`) a load; blocks."""
        ...

    def load_failed(self, model: str, number: int) -> None:
        """Triton could not load it."""
        ...


class Needs:
    """Of all versions in the catalog. Copies are asked for by pins and minReplicas, by a gate that waits, by use."""

    def __init__(self, limits: Limits, fleet: Fleet, clock: Callable[[], float]) -> None:
        self._limits, self._fleet, self._clock = limits, fleet, clock
        self.usage = Usage(limits.half_life_s, limits.half_life_requests)
        self.memory = Memory(limits)
        self.catalog = Catalog()
        self.required: dict[Key, int] = {}  # copies by pin and minReplicas
        self.proving: set[Key] = set()  # versions that wait for traffic until they are loaded
        self._in_force: dict[str, Mapping[int, int]] = {}  # percent by version with traffic
        self._deaths: dict[Key, list[float]] = {}  # when Tritons went away while they loaded it
        self.wanted: Counter[Key] = Counter()  # copies by use
        self._failed: dict[Key, tuple[str, str]] = {}  # reason and since when, of versions not loaded well since
        self._sizes: dict[Key, Size] = {}  # as told already
        self._asking: Counter[Key] = Counter()  # calls that wait for a load
        self.seals: Seals | None = None  # None: whatever lies there may be loaded

    def set_catalog(self, catalog: Catalog) -> None:
        """Models that are gone are forgotten."""
        self.catalog = catalog
        self._sizes.clear()
        self._failed = {key: why for key, why in self._failed.items() if key[0] in catalog.models}
        self.memory.keep(catalog.models)
        self._in_force = {name: shares for name, shares in self._in_force.items() if name in catalog.models}
        self.proving = {key for key in self.proving if key[0] in catalog.models}
        self.required = {}
        for model in catalog.models.values():
            self._require(model)

    def set_traffic(self, model: str, in_force: Mapping[int, int], proving: frozenset[int]) -> bool:
        """Shares of the versions with traffic, and the versions to be loaded before they get some.

        Returns whether loads may follow.
        """
        proved = {key for key in self.proving if key[0] == model}
        now = {(model, version) for version in proving}
        before = self._in_force.get(model)
        if proved == now and before == in_force:
            return False
        self.proving = self.proving - proved | now
        self._in_force[model] = in_force
        if before:
            self._share_copies(model, before, in_force)
        known = self.catalog.models.get(model)
        if known is None:
            return False
        self._require(known)
        return bool(now or known.placement.replicas)

    @contextmanager
    def asked(self, key: Key) -> Iterator[None]:
        """Meanwhile the version is not taken away."""
        self._asking[key] += 1
        try:
            yield
        finally:
            self._asking[key] -= 1
            if not self._asking[key]:
                del self._asking[key]

    def target(self, key: Key) -> int:
        """On how many Tritons the version is to be."""
        model = self.catalog.models.get(key[0])
        most = (model.placement.max_replicas if model else 0) or math.inf
        return int(max(self.stays(key), min(self.wanted[key], most)))

    def stays(self, key: Key) -> int:
        """Copies that no other model may push out."""
        version = self._known(key)[1]
        removed = version is not None and version.removed and key[1] in self._in_force.get(key[0], ())
        return max(self.required.get(key, 0), int(key in self.proving), int(removed))

    def let_go(self, key: Key) -> None:
        """One copy fewer is wanted: it is about to be unloaded."""
        self.wanted[key] = len(self._fleet.holders(key)) - 1
        if self.wanted[key] <= 0:
            del self.wanted[key]

    def blame(self, key: Key) -> None:
        """Its Triton went away while it was loaded."""
        self._deaths.setdefault(key, []).append(self._clock())

    def failed(self, key: Key, reason: str) -> None:
        """Triton could not load it."""
        since = self._failed.get(key, ("", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")))[1]
        self._failed[key] = (reason, since)

    def could_not_load(self, key: Key) -> None:
        """Triton refused its files. While no Triton has the version, they may be mended."""
        if self.seals is not None and not self._fleet.holders(key):
            self.seals.load_failed(*key)

    def loaded(self, keys: Iterable[Key]) -> None:
        """Versions that a Triton has ready."""
        if self._failed:
            for key in keys:
                self._failed.pop(key, None)

    def last_failures(self, model: str, versions: Iterable[int]) -> dict[int, str]:
        """Why versions could not be loaded, since when, and when it is tried again; until a load has succeeded."""
        again = f"it is tried again when it is needed, at most every {self._limits.failure_ttl_s:g} s"
        found = {version: self._failed[model, version] for version in versions if (model, version) in self._failed}
        return {version: f"{reason} (fails since {since}; {again})" for version, (reason, since) in found.items()}

    def blamed(self, key: Key, now_s: float) -> int:
        """How many Tritons went away lately while they loaded it; then it is not loaded unasked."""
        if key not in self._deaths:
            return 0
        recent = [at for at in self._deaths[key] if now_s - at < self._limits.failure_ttl_s]
        if recent:
            self._deaths[key] = recent
        else:
            del self._deaths[key]
        return len(recent)

    def can_load(self, key: Key) -> bool:
        """Whether its files are there."""
        version = self._known(key)[1]
        return version is not None and not version.removed

    def cannot_load(self, key: Key) -> str:
        """Why it cannot be loaded, for one that cannot."""
        version = self._known(key)[1]
        fault = version.fault if version is not None else ""
        return fault or f"the files of version {key[1]} were removed"

    async def changed(self, model: str, versions: Iterable[int], *, loaded: bool = False) -> str:
        """Why one of these versions must not be loaded: its files are not what was published. '' if all may be.

        `loaded`: Triton has read them meanwhile.
        Triton reads the files of all versions that it is told to keep again once one of them was written.
        """
        if self.seals is None:
            return ""
        for version in sorted(versions):
            if why := await asyncio.to_thread(self.seals.check, model, version, loaded):
                return why
        return ""

    def size_of(self, key: Key) -> Size:
        """Bytes of the version when it is loaded."""
        if (size := self._sizes.get(key)) is None:
            model, version = self._known(key)
            declared = (model.placement.memory_bytes if model else 0) or 0
            size = self._sizes[key] = self.memory.size(key, declared, version.file_bytes if version else 0)
        return size

    def measured(self, key: Key, grown_bytes: int) -> None:
        """What the memory of a Triton grew by when the version was loaded."""
        self.memory.measured(key, grown_bytes)
        self._sizes.pop(key, None)

    def config_of(self, model: str) -> mc.ModelConfig | None:
        known = self.catalog.models.get(model)
        return known.config if known else None

    def contract_of(self, key: Key) -> Contract | None:
        """None when the version is not in the catalog."""
        version = self._known(key)[1]
        return version.contract if version else None

    def tritons_here(self) -> int:
        """How many Tritons run on this machine."""
        return sum(is_here(pod.address) for pod in self._fleet)

    def occupants(self, pod: Pod, now_s: float) -> list[Occupant]:
        """What is ready on a Triton, and when it may go to make room."""
        return [
            Occupant(key, self.size_of(key).bytes, self._goes_in_s(key, pod, now_s), self.usage.coldness(key))
            for key in pod.ready
        ]

    def why_unload(self, key: Key, pod: Pod, now_s: float) -> str:
        """Why the version is not needed there any longer; empty when it is."""
        if self._holds_changed(key, pod):
            return ""
        if self._known(key)[1] is None:
            return "removed from the catalog"
        holders = self._fleet.holders(key)
        if key in self._asking or len(holders) <= self.stays(key):
            return ""
        if len(holders) > max(1, self.target(key)) and self._has_weakest_claim(key, pod):
            return "surplus copy"
        ttl_s = self._limits.idle_ttl_s
        if ttl_s and min(self.usage.idle_s(key, now_s), now_s - pod.since.get(key, now_s)) >= ttl_s:
            return f"idle for {ttl_s:g} s"
        return ""

    def in_use(self, key: Key, now_s: float) -> bool:
        """Whether it was asked for so lately that it is worth a load without being asked."""
        return self.usage.idle_s(key, now_s) < self._limits.busy_s + self._limits.min_residence_s

    def _goes_in_s(self, key: Key, pod: Pod, now_s: float) -> float:
        """Seconds until the version may go from there to make room; infinite if it is to stay.

        What is in use keeps its place for a while, or hot models would push each other out in a circle.
        """
        if key in self._asking or len(self._fleet.holders(key)) <= self.stays(key) or self._holds_changed(key, pod):
            return math.inf
        quiet_s = self._limits.busy_s - self.usage.idle_s(key, now_s)
        settled_s = self._limits.min_residence_s - (now_s - pod.since.get(key, now_s))
        return max(0.0, min(quiet_s, settled_s))

    def _holds_changed(self, key: Key, pod: Pod) -> bool:
        """Whether an unload would have Triton read the changed files of another version of the model."""
        others = (self._known((key[0], number))[1] for number in pod.held_versions(key[0]) if number != key[1])
        return any(version is not None and version.fault for version in others)

    def _has_weakest_claim(self, key: Key, pod: Pod) -> bool:
        ranked = [each for each in self._fleet.ranked(key[0]) if key in each.ready]
        return bool(ranked) and ranked[-1] is pod

    def _share_copies(self, model: str, before: Mapping[int, int], now: Mapping[int, int]) -> None:
        """Who takes over traffic needs its share of the copies at once, not when requests have begun to wait."""
        copies = max(len(self._fleet.holders((model, version))) for version in before)
        for version, percent in now.items():
            if percent > before.get(version, 0):
                key = (model, version)
                self.wanted[key] = max(self.wanted[key], math.ceil(copies * percent / 100))
                self.usage.record(key, 0, self._clock())

    def _require(self, model: Model) -> None:
        """Copies of the versions that serve: not of one that only should."""
        if model.placement.replicas:
            serving = self._in_force.get(model.name, model.in_traffic)
            for version in model.versions:
                self.required.pop((model.name, version), None)
            self.required.update({(model.name, version): model.placement.replicas for version in serving})

    def _known(self, key: Key) -> tuple[Model | None, Version | None]:
        model = self.catalog.models.get(key[0])
        return model, model.versions.get(key[1]) if model else None
