"""One predictor, a Triton: its versions by its own index, its availability, failed loads, and capacity in use."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Protocol

from tritonclient.grpc import model_config_pb2 as mc

from controller.placement.policy.eviction import Capacity
from controller.placement.policy.headroom import Headroom
from controller.placement.policy.memory import Size
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.gpu_memory import GpuMemory
from controller.placement.predictors.request_statistics import RequestStatistics
from controller.placement.predictors.triton_client import Index, TritonApi
from triptych.datatypes import Array
from triptych.errors import Internal, StageUnavailable, TriptychError
from triptych.runtime.machine_memory import is_here

log = logging.getLogger(__name__)

# A Triton too busy to answer in time still serves; after so many missed observations in a row it is unavailable.
MAX_MISSES = 3
MAX_OBSERVATION_AGE_S = 2.0  # before a load: a predictor of a large fleet is observed less often


class Sizes(Protocol):
    """Bytes of each version. `revision` changes with any of them."""

    revision: int

    def size_of(self, key: VersionKey) -> Size: ...


class Predictor:
    """State of one predictor. Calls `on_change` whenever `ready` or `available` changes.

    `ready` excludes versions that are about to be unloaded and, with `warms_up`, versions without a passed warm-up.
    The versions of the first index count as warm: they have served. A version takes capacity from the start of its
    load until Triton's index no longer has it.
    """

    def __init__(
        self,
        triton: TritonApi,
        slots: int,
        on_change: Callable[[Predictor], None],
        clock: Callable[[], float],
        *,
        warms_up: bool = False,
    ) -> None:
        self.address = triton.address
        self.on_this_machine = is_here(triton.address)
        self.ready: frozenset[VersionKey] = frozenset()  # requests may be sent to these
        self.available = False
        self.adopted = False  # whether the versions of its first index are part of the desired state
        self.unavailable_reason = "no answer yet"
        self.load_slots = asyncio.Semaphore(slots)
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # one load or unload of a model at once
        self.gpu: GpuMemory | None = None
        self.statistics = RequestStatistics()
        self.ready_since: dict[VersionKey, float] = {}
        self.observed_s = -math.inf  # time of the last observation, whether it had an answer or not
        self.observed_every_s = 0.0  # seconds between two observations, which the reconciler sets
        self.reserved: dict[VersionKey, Size] = {}  # capacity of loads that run or wait, in their order
        self.headroom = Headroom()
        self._confirmed: set[VersionKey] = set()  # loaded since the observation in progress began
        self._withdrawn: set[VersionKey] = set()  # no longer ready, and unloaded in a moment
        self._warm: set[VersionKey] = set()  # may get requests; without `warms_up` all of the index
        self._warms_up = warms_up
        self._held: dict[str, set[int]] = {}  # ready in Triton, warm or not, by model
        self._index = Index()
        self._triton, self._on_change, self._clock = triton, on_change, clock
        self._failures: dict[VersionKey, tuple[str, float]] = {}  # reason, and the end of its validity
        self._misses = 0
        self._whole = False
        self._observing = asyncio.Lock()
        self._next_observation: asyncio.Task[None] | None = None
        self._indexed: tuple[int, frozenset[VersionKey], Capacity] | None = None  # revision of sizes, keys, their sum

    @property
    def loading(self) -> frozenset[VersionKey]:
        """Versions that Triton loads by its index, for any client."""
        return self._index.loading

    @property
    def not_warm(self) -> frozenset[VersionKey]:
        """Versions ready in Triton that get no requests before their warm-up has passed."""
        return self._index.ready - self._warm - self._withdrawn

    @property
    def stale(self) -> bool:
        """Whether the last observation failed, so that the index may have changed since."""
        return self._misses > 0

    @property
    def unsettled(self) -> bool:
        """Whether a load or unload is in progress."""
        return bool(self.reserved or self._withdrawn or self._index.loading or self._index.unloading)

    @property
    def has_failures(self) -> bool:
        """Whether failed loads are remembered."""
        return bool(self._failures)

    def taken(self, sizes: Sizes, last: VersionKey | None = None) -> Capacity:
        """Capacity in use, also by versions that are loaded or unloaded; of reserved ones up to `last`."""
        if self._indexed is None or self._indexed[0] != sizes.revision:
            index = self._index
            keys = index.ready | index.loading | index.unloading | self._withdrawn
            total = Capacity(len(keys), sum(sizes.size_of(key).bytes for key in keys))
            self._indexed = (sizes.revision, keys, total)
        _, keys, total = self._indexed
        for key, size in self.reserved.items():
            if key not in keys:
                total += Capacity(1, size.bytes)
            if key == last:
                break
        return total

    def ready_versions(self, model: str) -> set[int]:
        """Versions that requests may be sent to."""
        return {version for version in self.held_versions(model) if (model, version) in self._warm}

    def in_memory(self, key: VersionKey) -> bool:
        """Whether Triton has the version, even while it is unloaded."""
        return key in self._index.ready or key in self._index.unloading

    def is_indexed_ready(self, key: VersionKey) -> bool:
        """Whether Triton's index has the version ready, withdrawn or not."""
        return key in self._index.ready

    def takes_capacity(self, key: VersionKey) -> bool:
        """Whether `taken` counts the version, in whatever state."""
        return self.in_memory(key) or key in self._withdrawn or key in self.reserved

    async def refresh(self, *, whole: bool = False) -> None:
        """Return after an observation of the index that began after this call; all waiting callers share one.

        Only the whole index shows the end of an unload; it is more work for Triton.
        """
        self._whole |= whole
        if self._next_observation is None:
            self._next_observation = asyncio.create_task(self._observe())
        await asyncio.shield(self._next_observation)

    async def refresh_if_old(self) -> bool:
        """Observe the index if the last observation is so old that the predictor may be gone. Whether it was."""
        if self._clock() - self.observed_s <= MAX_OBSERVATION_AGE_S:
            return False
        await self.refresh()
        return True

    async def count(self) -> dict[VersionKey, int] | None:
        """Requests of each version since the last call; None without an answer.

        Updates `statistics` and `gpu`.
        """
        try:
            counts = await self._triton.counts()
            gpu = await self._triton.gpu_memory()
        except TriptychError:
            return None
        self.gpu = gpu or self.gpu  # metrics that are late once do not mean a Triton without a GPU
        return self.statistics.read(counts, self._clock())

    async def confirm(self, key: VersionKey) -> bool:
        """Record a version that Triton has just loaded. False unless Triton reports it as ready.

        One question about one version: an observation of the index may have to wait for another that takes long.
        """
        try:
            ready = await self._triton.is_ready(*key)
        except TriptychError:
            return False
        if ready and self.available:
            index = self._index
            self._confirmed.add(key)
            self._set(Index(index.ready | {key}, index.loading - {key}, index.unloading - {key}), available=True)
        return self.holds(key)

    def holds(self, key: VersionKey) -> bool:
        """Whether Triton has the version ready, warm or not."""
        return key in self._index.ready and key not in self._withdrawn

    def mark_warm(self, key: VersionKey) -> None:
        """Allow requests to the version."""
        self._warm.add(key)
        self._set(self._index, available=self.available)

    async def infer(self, key: VersionKey, tensors: Mapping[str, Array], timeout_s: float) -> dict[str, Array]:
        """The version's outputs for a request of this process. Raises the errors of `TritonApi.infer`."""
        self.statistics.add_own(key, len(next(iter(tensors.values()))))
        try:
            return await self._triton.infer(*key, tensors, timeout_s)
        except Internal:  # Triton counts it as a failure
            self.statistics.add_own_failure(key)
            raise

    async def load(self, model: str, config: mc.ModelConfig, version: int, timeout_s: float) -> None:
        """Add a version to the ready ones of the model. Raises the errors of `TritonApi.load`."""
        await self._triton.load(model, config, self.held_versions(model) | {version}, timeout_s)

    async def unload(self, model: str, config: mc.ModelConfig | None, timeout_s: float) -> None:
        """Take the withdrawn versions of the model out of Triton. Raises the errors of `TritonApi`."""
        rest = self.held_versions(model)
        if rest and config is not None:
            await self._triton.load(model, config, rest, timeout_s)
        else:
            await self._triton.unload(model)

    def held_versions(self, model: str) -> set[int]:
        """Versions that Triton has ready, warm or not."""
        return self._held.get(model, set())

    async def not_ready_reason(self, key: VersionKey) -> str:
        """Triton's reason for a version that is not ready."""
        try:
            reason = await self._triton.reason(*key)
            return reason or f"Triton left version {key[1]} out and gives no reason"
        except TriptychError as error:
            return str(error)

    def failure(self, key: VersionKey) -> str:
        """The reason of a failed load, as long as it is remembered."""
        reason, until = self._failures.get(key, ("", 0.0))
        return reason if self._clock() < until else ""

    def remember_failure(self, key: VersionKey, reason: str, ttl_s: float) -> None:
        self._failures[key] = (reason, self._clock() + ttl_s)

    def forget_failures(self, model: str) -> bool:
        """Whether there was one."""
        before, self._failures = self._failures, {k: kept for k, kept in self._failures.items() if k[0] != model}
        return len(before) != len(self._failures)

    def expire_failures(self) -> set[str]:
        """Drop failures that no longer count; return their models."""
        if not self._failures:
            return set()
        now = self._clock()
        old = {key for key, (_, until) in self._failures.items() if until <= now}
        for key in old:
            del self._failures[key]
        return {name for name, _ in old}

    def withdraw(self, key: VersionKey) -> None:
        """Send no more requests to the version: it is unloaded in a moment."""
        self._withdrawn.add(key)
        self._confirmed.discard(key)
        self._set(self._index, available=self.available)

    def end_withdrawal(self, key: VersionKey) -> None:
        """End `withdraw`, whether the version is unloaded or stays."""
        self._withdrawn.discard(key)
        self._set(self._index, available=self.available)

    async def close(self) -> None:
        """End observations in progress as for an unavailable Triton."""
        await self._triton.close()

    async def _observe(self) -> None:
        async with self._observing:
            self._next_observation = None
            before = self._index
            whole = self._whole or not self.available or bool(before.loading or before.unloading - self._withdrawn)
            self._whole = False
            self._confirmed.clear()
            try:
                index = await self._triton.index(whole=whole)
            except TriptychError as error:
                self.observed_s = self._clock()
                self._missed(error)
            else:
                self.observed_s, self._misses = self._clock(), 0
                ready = index.ready | self._confirmed
                if not whole:  # a version being unloaded stays that until a whole index no longer has it
                    unloading = before.unloading | (before.ready & self._withdrawn)
                    index = Index(ready, before.loading, unloading)
                self._set(Index(ready, index.loading - ready, index.unloading - ready), available=True)

    def _missed(self, error: TriptychError) -> None:
        self._misses += 1
        self.unavailable_reason = str(error)
        if isinstance(error, StageUnavailable) or self._misses >= MAX_MISSES or not self.available:
            self._failures.clear()  # a Triton that returns there is a new process
            self.statistics.forget()
            self.adopted = False
            self._set(Index(), available=False)

    def _set(self, index: Index, *, available: bool) -> None:
        before = (self.ready, self.available)
        if available and not self.available:
            log.info("predictor available", extra={"predictor": self.address, "versions_ready": len(index.ready)})
        elif self.available and not available:
            facts = {"predictor": self.address, "reason": self.unavailable_reason}
            log.warning("predictor unavailable", extra=facts)
        if not self._warms_up or (available and not self.available):
            self._warm = set(index.ready - self.reserved.keys() if self._warms_up else index.ready)
        self._warm &= index.ready
        self.statistics.prune_own(index.ready)
        self._index, self.available, self._indexed = index, available, None
        held = index.ready - self._withdrawn
        self.ready = held & self._warm
        self._held = {}
        for name, version in held:
            self._held.setdefault(name, set()).add(version)
        now_s = self._clock()
        self.ready_since = {key: self.ready_since.get(key, now_s) for key in index.ready}
        if (self.ready, self.available) != before:
            self._on_change(self)
