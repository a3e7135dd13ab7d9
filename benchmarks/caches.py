"""Eviction policies for a simulated cache of models: LRU, the controller's policy, and Belady's optimum. Pure.

Every request is answered by a loaded model: a miss always loads, and evicts if the cache is full.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks.traces import Trace
from controller.placement.policy.eviction import Occupant, Room, make_room
from controller.placement.policy.headroom import Spare
from controller.placement.policy.popularity import Key, Usage
from controller.placement.settings import Limits

NEVER = 1 << 60


class Cache(Protocol):
    """A cache of models that serves requests in sequence."""

    def request(self, model: int, now_s: float) -> bool:
        """Serve a request; return whether the model was already loaded."""
        ...


class Lru:
    """Evicts the least recently used model."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._loaded: OrderedDict[int, None] = OrderedDict()

    def request(self, model: int, now_s: float) -> bool:
        if model in self._loaded:
            self._loaded.move_to_end(model)
            return True
        if len(self._loaded) >= self._places:
            self._loaded.popitem(last=False)
        self._loaded[model] = None
        return False


class Ours:
    """The controller's own code: `Usage` keeps the scores, `Spare` the free places, and `make_room` chooses who goes.

    `spare` places are kept free, or as many as follow from the `limits` and the loads of late; what is idle for
    `idle_ttl_s` goes by itself (0: nothing does), as in a running controller. With `requests_per_place` a request
    counts half after the half-life or after so many requests for each place, whichever is later: little traffic is
    remembered for longer. A place is free again `turn_s` after somebody was chosen to go; `waited` counts the loads
    that found none free.
    """

    def __init__(
        self,
        places: int,
        half_life_s: float,
        spare: int = 0,
        idle_ttl_s: float = 0.0,
        requests_per_place: float = 0.0,
        limits: Limits | None = None,
        turn_s: float = 0.0,
    ) -> None:
        self._places, self._limits, self._turn_s = Room(models=places), limits, turn_s
        self._budget = Room(models=places - spare)
        self._spare = Spare()
        self._spare.load_s.value, self._spare.unload_s.value = 0.0, turn_s
        self._free_at: deque[float] = deque()  # when evicted models free their places
        self.loads = self.waited = 0
        self._usage = Usage(half_life_s, requests_per_place)
        self._usage.places = places
        self._idle_ttl_s = idle_ttl_s
        self._loaded: dict[int, Key] = {}

    @property
    def resident(self) -> frozenset[int]:
        """Loaded models."""
        return frozenset(self._loaded)

    def request(self, model: int, now_s: float) -> bool:
        key = self._loaded.get(model)
        hit = key is not None and not (self._idle_ttl_s and self._usage.idle_s(key, now_s) >= self._idle_ttl_s)
        if not hit:
            key = self._load(model, now_s)
        assert key is not None
        self._usage.record(key, 1, now_s)
        return hit

    def _load(self, model: int, now_s: float) -> Key:
        self._loaded.pop(model, None)
        self._note_load(now_s)
        lack = Room(models=len(self._loaded) + 1).lacks(self._budget)
        if not lack.nothing:
            coldness = self._usage.coldness
            found = make_room(lack, [Occupant(key, 1, 0.0, coldness(key)) for key in self._loaded.values()])
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
        self.waited += len(self._loaded) + len(self._free_at) >= self._places.models
        if self._limits is not None:
            self._spare.load_begins(0, now_s)
            spare = self._spare.room(self._places, self._limits, now_s)
            self._budget = Room(models=self._places.models - spare.models)


class Belady:
    """Evicts the model whose next request is farthest away: the optimum (Belady, 1966). Needs the whole trace."""

    def __init__(self, places: int, models: Sequence[int]) -> None:
        self._places = places
        self._next = _next_uses(models)
        self._at = 0
        self._loaded: dict[int, int] = {}  # index of the next request for each
        self._latest: list[tuple[int, int]] = []  # heap of the same, the latest first; some entries are stale

    def request(self, model: int, now_s: float) -> bool:
        again = self._next[self._at]
        self._at += 1
        hit = model in self._loaded
        if not hit and len(self._loaded) >= self._places:
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


Make = Callable[[int, Trace], Cache]  # from a number of places and the whole trace


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
