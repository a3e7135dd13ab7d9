"""Eviction policies for a simulated cache of models: LRU, the controller's policy, and Belady's optimum. Pure.

Every request is answered by a loaded model: a miss always loads, and evicts if the cache is full.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks.placement.traces import Trace
from controller.placement.policy.eviction import Candidate, Capacity, choose_victims
from controller.placement.policy.headroom import Headroom
from controller.placement.policy.popularity import Popularity, VersionKey
from controller.placement.settings import PlacementSettings

NEVER = 1 << 60


class Cache(Protocol):
    """A cache of models that serves requests in sequence."""

    def request(self, model: int, now_s: float) -> bool:
        """Serve a request; return whether the model was already loaded."""
        ...


class Lru:
    """Evicts the least recently used model."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._loaded: OrderedDict[int, None] = OrderedDict()

    def request(self, model: int, now_s: float) -> bool:
        if model in self._loaded:
            self._loaded.move_to_end(model)
            return True
        if len(self._loaded) >= self._slots:
            self._loaded.popitem(last=False)
        self._loaded[model] = None
        return False


class Ours:
    """The controller's own code: `Popularity` scores, `Headroom` sizes the free slots, `choose_victims` evicts.

    `headroom` slots are kept free, or, with `settings`, as many as follow from the recent loads. A model idle for
    `idle_ttl_s` is evicted (0: never). With `requests_per_slot` a request counts half after the half-life or after that
    many requests for each slot, whichever is later. A slot is free again `turn_s` after the eviction began; `waited`
    counts the loads that found none free.
    """

    def __init__(
        self,
        slots: int,
        half_life_s: float,
        headroom: int = 0,
        idle_ttl_s: float = 0.0,
        requests_per_slot: float = 0.0,
        settings: PlacementSettings | None = None,
        turn_s: float = 0.0,
    ) -> None:
        self._slots, self._settings, self._turn_s = Capacity(models=slots), settings, turn_s
        self._budget = Capacity(models=slots - headroom)
        self._headroom = Headroom()
        self._headroom.load_s.value, self._headroom.unload_s.value = 0.0, turn_s
        self._free_at: deque[float] = deque()  # when evicted models free their slots
        self.loads = self.waited = 0
        self._popularity = Popularity(half_life_s, requests_per_slot)
        self._popularity.loaded_versions = slots
        self._idle_ttl_s = idle_ttl_s
        self._loaded: dict[int, VersionKey] = {}

    @property
    def loaded(self) -> frozenset[int]:
        """The loaded models."""
        return frozenset(self._loaded)

    def request(self, model: int, now_s: float) -> bool:
        key = self._loaded.get(model)
        hit = key is not None and not (self._idle_ttl_s and self._popularity.idle_s(key, now_s) >= self._idle_ttl_s)
        if not hit:
            key = self._load(model, now_s)
        assert key is not None
        self._popularity.record(key, 1, now_s)
        return hit

    def _load(self, model: int, now_s: float) -> VersionKey:
        self._loaded.pop(model, None)
        self._note_load(now_s)
        deficit = Capacity(models=len(self._loaded) + 1).excess_over(self._budget)
        if not deficit.is_zero:
            coldness = self._popularity.coldness
            found = choose_victims(deficit, [Candidate(key, 1, 0.0, coldness(key)) for key in self._loaded.values()])
            assert not isinstance(found, float)
            for name, _ in found:
                del self._loaded[int(name)]
                self._free_at.append(now_s + self._turn_s)
        key = self._loaded[model] = (str(model), 1)
        return key

    def _note_load(self, now_s: float) -> None:
        while self._free_at and self._free_at[0] <= now_s:
            self._free_at.popleft()
        self.loads += 1
        self.waited += len(self._loaded) + len(self._free_at) >= self._slots.models
        if self._settings is not None:
            self._headroom.load_begins(0, now_s)
            headroom = self._headroom.capacity(self._slots, self._settings, now_s)
            self._budget = Capacity(models=self._slots.models - headroom.models)


class Belady:
    """Evicts the model whose next request is farthest away: the optimum (Belady, 1966). Needs the whole trace."""

    def __init__(self, slots: int, models: Sequence[int]) -> None:
        self._slots = slots
        self._next = _next_uses(models)
        self._at = 0
        self._loaded: dict[int, int] = {}  # index of the next request for each
        self._latest: list[tuple[int, int]] = []  # heap of the same, the latest first; some entries are stale

    def request(self, model: int, now_s: float) -> bool:
        again = self._next[self._at]
        self._at += 1
        hit = model in self._loaded
        if not hit and len(self._loaded) >= self._slots:
            self._drop_latest()
        self._loaded[model] = again
        heapq.heappush(self._latest, (-again, model))
        return hit

    def _drop_latest(self) -> None:
        while True:
            again, model = heapq.heappop(self._latest)
            if self._loaded.get(model) == -again:
                del self._loaded[model]
                return


Make = Callable[[int, Trace], Cache]  # from a number of slots and the whole trace


def hit_rate(cache: Cache, trace: Trace, warm_up: int) -> float:
    """Hit rate after the first `warm_up` requests."""
    hits = 0
    for at, (model, time_s) in enumerate(zip(trace.models, trace.times_s, strict=True)):
        if cache.request(model, time_s) and at >= warm_up:
            hits += 1
    return hits / (len(trace) - warm_up)


def _next_uses(models: Sequence[int]) -> list[int]:
    """Index of the next request for the same model, for each request; a distinct large number if there is none."""
    following: dict[int, int] = {}
    uses = [0] * len(models)
    for at in range(len(models) - 1, -1, -1):
        uses[at] = following.get(models[at], NEVER + at)
        following[models[at]] = at
    return uses
