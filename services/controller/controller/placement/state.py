"""The state that placement is planned from: the observed predictors, the desired state, and the work in progress.

Planning only reads it. The reconciler writes the desired state, the loader its work, each predictor what it observed.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controller.placement.desired_state import DesiredState
from controller.placement.load_history import LoadHistory
from controller.placement.policy.eviction import Candidate, Capacity
from controller.placement.policy.popularity import Popularity, VersionKey
from controller.placement.predictors.fleet import Fleet
from controller.placement.predictors.predictor import Predictor
from controller.placement.settings import PlacementSettings
from controller.placement.version_facts import VersionFacts
from triptych.errors import TriptychError
from triptych.runtime.ewma import Ewma
from triptych.runtime.machine_memory import machine_bytes

Replica = tuple[VersionKey, str]  # a version on the predictor with that address
Outcome = TriptychError | None


@dataclass
class InProgress:
    """Loads and unloads that run or wait. The loader alone writes them."""

    load_s: Ewma = field(default_factory=lambda: Ewma(0.2, initial=1.0))  # of a load, without its wait for a slot
    loads: dict[Replica, asyncio.Task[Outcome]] = field(default_factory=dict)
    unloads: dict[Replica, asyncio.Task[None]] = field(default_factory=dict)
    loads_on: Counter[str] = field(default_factory=Counter)  # by address
    _by_version: dict[VersionKey, dict[str, asyncio.Task[Outcome]]] = field(default_factory=dict)
    _unloads_on: dict[str, dict[VersionKey, asyncio.Task[None]]] = field(default_factory=dict)

    def loading(self, key: VersionKey) -> Mapping[str, asyncio.Task[Outcome]]:
        """Loads of the version by address."""
        return self._by_version.get(key, {})

    def unloading(self, address: str) -> Mapping[VersionKey, asyncio.Task[None]]:
        """Unloads on the predictor by version."""
        return self._unloads_on.get(address, {})

    def add_load(self, replica: Replica, task: asyncio.Task[Outcome]) -> None:
        key, address = replica
        self.loads[replica] = self._by_version.setdefault(key, {})[address] = task
        self.loads_on[address] += 1

    def remove_load(self, replica: Replica) -> None:
        key, address = replica
        del self.loads[replica], self._by_version[key][address]
        if not self._by_version[key]:
            del self._by_version[key]
        self.loads_on[address] -= 1
        if not self.loads_on[address]:
            del self.loads_on[address]

    def add_unload(self, replica: Replica, task: asyncio.Task[None]) -> None:
        key, address = replica
        self.unloads[replica] = self._unloads_on.setdefault(address, {})[key] = task

    def remove_unload(self, replica: Replica) -> None:
        key, address = replica
        del self.unloads[replica], self._unloads_on[address][key]
        if not self._unloads_on[address]:
            del self._unloads_on[address]


class State:
    """All that planning reads, and what follows from it for one version or one predictor."""

    def __init__(
        self, settings: PlacementSettings, fleet: Fleet, versions: VersionFacts, clock: Callable[[], float]
    ) -> None:
        self.settings, self.fleet, self.versions, self._clock = settings, fleet, versions, clock
        self.popularity = Popularity(settings.half_life_s, settings.half_life_requests)
        self.desired = DesiredState(versions, self.replicas)
        self.history = LoadHistory(settings)
        self.in_progress = InProgress()
        self._machine_bytes = machine_bytes()

    @property
    def now_s(self) -> float:
        return self._clock()

    def replicas(self, key: VersionKey) -> int:
        """Predictors that have the version ready."""
        return len(self.fleet.holders(key))

    def budget(self, predictor: Predictor) -> Capacity:
        """Capacity of a predictor for models; 0 is no limit.

        Without a limit in bytes it is a share of the GPU memory, or of this machine's memory.
        """
        settings = self.settings
        max_bytes = settings.max_bytes
        if not max_bytes and predictor.gpu is not None:
            max_bytes = int(predictor.gpu.total_bytes * settings.gpu_percent / 100)
        elif not max_bytes and predictor.on_this_machine:
            share = settings.memory_percent / 100 / max(1, self.fleet.on_this_machine)
            max_bytes = int(self._machine_bytes * share)
        return Capacity(settings.max_models, max_bytes)

    def taken(self, predictor: Predictor) -> Capacity:
        """Capacity in use on a predictor, also by versions that are loaded or unloaded."""
        return predictor.taken(self.versions)

    def deficit(self, predictor: Predictor, key: VersionKey) -> Capacity:
        """Capacity above the budget if the version were loaded there."""
        taken = predictor.taken(self.versions, key)
        if not predictor.takes_capacity(key):
            taken += Capacity(1, self.versions.size_of(key).bytes)
        return taken.excess_over(self.budget(predictor))

    def being_freed(self, predictor: Predictor) -> Capacity:
        """Capacity that unloads in progress will free."""
        keys = self.in_progress.unloading(predictor.address).keys()
        return Capacity(len(keys), sum(self.versions.size_of(key).bytes for key in keys))

    def headroom(self, predictor: Predictor) -> Capacity:
        """Capacity to keep free on a predictor."""
        return predictor.headroom.capacity(self.budget(predictor), self.settings, self.now_s)

    def queue_s(self, predictor: Predictor) -> float:
        """Expected wait of another load for its slot."""
        at_once = self.settings.max_concurrent_loads
        waiting = self.in_progress.loads_on[predictor.address] - at_once + 1
        return max(0, waiting) * self.in_progress.load_s.value / at_once

    @property
    def loads_full(self) -> bool:
        """Whether as many loads run or wait as may."""
        return len(self.in_progress.loads) >= self.settings.max_waiting_loads

    def is_in_use(self, key: VersionKey) -> bool:
        """Whether the last request is so recent that the version is worth a load without a request."""
        return self.popularity.idle_s(key, self.now_s) < self.settings.busy_s + self.settings.min_loaded_s

    def candidates(self, predictor: Predictor) -> list[Candidate]:
        """The ready versions of a predictor as candidates of an eviction for capacity."""
        now_s = self.now_s
        return [
            Candidate(
                key,
                self.versions.size_of(key).bytes,
                self._evictable_in_s(key, predictor, now_s),
                self.popularity.coldness(key),
            )
            for key in predictor.ready
        ]

    def eviction_reason(self, key: VersionKey, predictor: Predictor, *, replicas: int) -> str:
        """Why the version is no longer needed there; empty when it is. `replicas` excludes planned evictions."""
        if self._would_reload_changed_files(key, predictor):
            return ""
        if self.versions.version(key) is None:
            return "removed from the catalog"
        if self.desired.is_awaited(key) or replicas <= self.desired.minimum(key):
            return ""
        if replicas > max(1, self.desired.target(key)) and self._is_least_preferred(key, predictor):
            return "surplus replica"
        ttl_s, now_s = self.settings.idle_ttl_s, self.now_s
        idle_s = min(self.popularity.idle_s(key, now_s), now_s - predictor.ready_since.get(key, now_s))
        return f"idle for {ttl_s:g} s" if ttl_s and idle_s >= ttl_s else ""

    def _evictable_in_s(self, key: VersionKey, predictor: Predictor, now_s: float) -> float:
        """Seconds until the version may be evicted for capacity; infinite if never.

        A version in use is protected for a while, or hot models would evict each other in a circle.
        """
        protected = self.desired.is_awaited(key) or self.replicas(key) <= self.desired.minimum(key)
        if protected or self._would_reload_changed_files(key, predictor):
            return math.inf
        busy_s = max(self.settings.busy_s, predictor.observed_every_s)  # later requests are not counted yet
        quiet_s = busy_s - self.popularity.idle_s(key, now_s)
        settled_s = self.settings.min_loaded_s - (now_s - predictor.ready_since.get(key, now_s))
        return max(0.0, min(quiet_s, settled_s))

    def _would_reload_changed_files(self, key: VersionKey, predictor: Predictor) -> bool:
        """Whether an unload would make Triton read the changed files of another version of the model."""
        held = predictor.held_versions(key[0])
        if len(held) <= 1 and key[1] in held:
            return False
        others = (self.versions.version((key[0], number)) for number in held if number != key[1])
        return any(version is not None and version.fault for version in others)

    def _is_least_preferred(self, key: VersionKey, predictor: Predictor) -> bool:
        ranked = [each for each in self.fleet.ranked(key[0]) if key in each.ready]
        return bool(ranked) and ranked[-1] is predictor
