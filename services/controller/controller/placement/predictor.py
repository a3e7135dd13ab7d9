"""One Triton: what it holds by its own index, whether it answers, what it failed to load, and its work in progress."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

from tritonclient.grpc import model_config_pb2 as mc

from controller.placement.policy.eviction import Room
from controller.placement.policy.headroom import Spare
from controller.placement.policy.memory import Size
from controller.placement.policy.popularity import Key
from controller.placement.policy.replica_count import Busy
from controller.placement.triton_client import Count, GpuMemory, Index, Predictor
from triptych.datatypes import Array
from triptych.errors import Internal, StageUnavailable, TriptychError

log = logging.getLogger(__name__)

MISSES = 3  # a Triton too busy to answer in time still serves; after so many looks in a row it counts as gone


class Pod:
    """Bookkeeping for one predictor. `on_change` is told whenever `ready` or `answers` changes.

    `ready` leaves out what is about to be unloaded, and with `warms_up` also what has not been proven. What a Triton
    had at the first look counts as proven: it has served. A version takes room from the start of its load until
    Triton's index has it no more.
    """

    def __init__(
        self,
        predictor: Predictor,
        slots: int,
        on_change: Callable[[Pod], None],
        clock: Callable[[], float],
        *,
        warms_up: bool = False,
    ) -> None:
        self.address = predictor.address
        self.ready: frozenset[Key] = frozenset()  # what requests may be sent to
        self.answers = False
        self.adopted = False  # whether what it had when it began to answer has been taken note of
        self.silence = "no answer yet"  # why it does not answer
        self.slots = asyncio.Semaphore(slots)
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # one load or unload of a model at once
        self.gpu: GpuMemory | None = None
        self.busy: Mapping[Key, Busy] = {}  # over the last look
        self.failing: dict[Key, int] = {}  # failures since the last success
        self.succeeded: frozenset[Key] = frozenset()  # over the last look
        self.since: dict[Key, float] = {}  # when a version was first seen ready
        self.arriving: dict[Key, Size] = {}  # loads that run or wait
        self.spare = Spare()
        self._confirmed: set[Key] = set()  # came since the look under way began
        self._leaving: set[Key] = set()  # withdrawn, and unloaded in a moment
        self._proven: set[Key] = set()  # may take requests; all that is in the index without `warms_up`
        self._warms_up = warms_up
        self._own: dict[Key, Count] = {}  # requests of this process, which are no use
        self._held: dict[str, set[int]] = {}  # what Triton has ready, proven or not, by model
        self._index = Index()
        self._predictor, self._on_change, self._clock = predictor, on_change, clock
        self._failures: dict[Key, tuple[str, float]] = {}  # reason, and until when it counts
        self._counts: Mapping[Key, Count] = {}
        self._counted_s: float | None = None  # when that was
        self._misses = 0
        self._whole = False
        self._looking = asyncio.Lock()
        self._next_look: asyncio.Task[None] | None = None

    @property
    def loading(self) -> frozenset[Key]:
        """What Triton itself says that it loads, whoever asked."""
        return self._index.loading

    @property
    def unproven(self) -> frozenset[Key]:
        """What Triton says is ready, and what no request is sent to before its warm-up has passed."""
        return self._index.ready - self._proven - self._leaving

    @property
    def blind(self) -> bool:
        """Whether the last look failed, so that nothing can be said about what has changed since."""
        return self._misses > 0

    @property
    def unsettled(self) -> bool:
        """Whether something comes or goes."""
        return bool(self.arriving or self._leaving or self._index.loading or self._index.unloading)

    def occupied(self, size_of: Callable[[Key], Size], last: Key | None = None) -> Room:
        """Room that is taken, by what comes and what goes too; of what comes, up to `last` in the order of asking."""
        index = self._index
        keys = index.ready | index.loading | index.unloading | self._leaving
        room = Room(len(keys), sum(size_of(key).bytes for key in keys))
        for key, size in self.arriving.items():
            if key not in keys:
                room += Room(1, size.bytes)
            if key == last:
                break
        return room

    def ready_versions(self, model: str) -> set[int]:
        """Versions that requests may be sent to."""
        return {version for version in self.held_versions(model) if (model, version) in self._proven}

    def in_memory(self, key: Key) -> bool:
        """Whether Triton has the version, perhaps while it is unloaded."""
        return key in self._index.ready or key in self._index.unloading

    def says_ready(self, key: Key) -> bool:
        """Whether Triton says that the version is ready, withdrawn or not."""
        return key in self._index.ready

    def takes_room(self, key: Key) -> bool:
        """Whether the version is counted already, in whatever state."""
        return self.in_memory(key) or key in self._leaving or key in self.arriving

    async def refresh(self, *, whole: bool = False) -> None:
        """Returns after a look at the index that began after this call; all who wait share one.

        Only a look at the whole index shows what has been unloaded; it is more work for Triton.
        """
        self._whole |= whole
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look())
        await asyncio.shield(self._next_look)

    async def count(self) -> dict[Key, int] | None:
        """Use of each version since the last count; sets `busy` and `gpu`. None when it does not answer."""
        try:
            counts = await self._predictor.counts()
            gpu = await self._predictor.gpu_memory()
        except TriptychError:
            return None
        self.gpu = gpu or self.gpu  # metrics that are late for once are no Triton without a GPU
        now_s = self._clock()
        first, since_s = self._counted_s is None, self._counted_s or 0.0
        elapsed_ns = max(now_s - since_s, 1e-3) * 1e9
        requests, busy, succeeded = {}, {}, set()
        for key, count in counts.items():
            before, own = self._counts.get(key, Count()), self._own.get(key, Count())
            if count.requests < before.requests or before.requests < own.requests:  # it was loaded anew
                before = own
            if count.requests > before.requests:
                requests[key] = count.use_since(before)
                waiting, total = count.queue_ns - before.queue_ns, count.total_ns - before.total_ns
                busy[key] = Busy(waiting / elapsed_ns, total / elapsed_ns)
                failures = count.failures - before.failures
                if count.requests - before.requests > failures:
                    succeeded.add(key)
                elif not first:
                    self.failing[key] = self.failing.get(key, 0) + failures
        self._counts, self._counted_s, self.busy = counts, now_s, {} if first else busy
        self.failing = {key: n for key, n in self.failing.items() if key in counts and key not in succeeded}
        self.succeeded = frozenset() if first else frozenset(succeeded)
        return {} if first else requests

    async def confirm(self, key: Key) -> bool:
        """Takes note of a version that Triton has just loaded. False when Triton does not say that it is ready.

        One question about one version: a look at the index may have to wait for another that takes long.
        """
        try:
            ready = await self._predictor.is_ready(*key)
        except TriptychError:
            return False
        if ready and self.answers:
            index = self._index
            self._confirmed.add(key)
            self._set(Index(index.ready | {key}, index.loading - {key}, index.unloading - {key}), answers=True)
        return self.holds(key)

    def holds(self, key: Key) -> bool:
        """Whether Triton has the version ready, proven or not."""
        return key in self._index.ready and key not in self._leaving

    def prove(self, key: Key) -> None:
        """Requests may be sent to the version from now on."""
        self._proven.add(key)
        self._set(self._index, answers=self.answers)

    async def infer(self, key: Key, tensors: Mapping[str, Array], timeout_s: float) -> dict[str, Array]:
        """The version's outputs, in place of a caller. Raises what `Predictor.infer` raises."""
        own, rows = self._own.get(key, Count()), len(next(iter(tensors.values())))
        own = self._own[key] = Count(own.requests + 1, rows=own.rows + rows, failures=own.failures)
        try:
            return await self._predictor.infer(*key, tensors, timeout_s)
        except Internal:  # Triton counts it as a failure
            self._own[key] = replace(own, failures=own.failures + 1)
            raise

    async def load(self, model: str, config: mc.ModelConfig, version: int, timeout_s: float) -> None:
        """Adds a version to what is ready of the model. Raises what `Predictor.load` raises."""
        await self._predictor.load(model, config, self.held_versions(model) | {version}, timeout_s)

    async def unload(self, model: str, config: mc.ModelConfig | None, timeout_s: float) -> None:
        """Takes out of Triton what is withdrawn of the model. Raises what the `Predictor` raises."""
        rest = self.held_versions(model)
        if rest and config is not None:
            await self._predictor.load(model, config, rest, timeout_s)
        else:
            await self._predictor.unload(model)

    def held_versions(self, model: str) -> set[int]:
        """Versions that Triton has ready, proven or not."""
        return self._held.get(model, set())

    async def reason(self, key: Key) -> str:
        """Why Triton has the version not ready."""
        try:
            reason = await self._predictor.reason(*key)
            return reason or f"Triton left version {key[1]} out and gives no reason"
        except TriptychError as error:
            return str(error)

    def failure(self, key: Key) -> str:
        """The reason of a failed load, as long as it is remembered."""
        reason, until = self._failures.get(key, ("", 0.0))
        return reason if self._clock() < until else ""

    def remember_failure(self, key: Key, reason: str, ttl_s: float) -> None:
        self._failures[key] = (reason, self._clock() + ttl_s)

    def forget_failures(self, model: str) -> bool:
        """Whether there was one."""
        before, self._failures = self._failures, {k: kept for k, kept in self._failures.items() if k[0] != model}
        return len(before) != len(self._failures)

    def forget_old_failures(self) -> set[str]:
        """The models of failures that do not count any more."""
        now = self._clock()
        old = {key for key, (_, until) in self._failures.items() if until <= now}
        for key in old:
            del self._failures[key]
        return {name for name, _ in old}

    def withdraw(self, key: Key) -> None:
        """No more requests for the version: it is unloaded in a moment."""
        self._leaving.add(key)
        self._confirmed.discard(key)
        self._set(self._index, answers=self.answers)

    def left(self, key: Key) -> None:
        """The end of `withdraw`, whether the version is gone or stays."""
        self._leaving.discard(key)
        self._set(self._index, answers=self.answers)

    async def close(self) -> None:
        """Looks under way end as with a Triton that does not answer."""
        await self._predictor.close()

    async def _look(self) -> None:
        async with self._looking:
            self._next_look = None
            before = self._index
            whole = self._whole or not self.answers or bool(before.loading or before.unloading - self._leaving)
            self._whole = False
            self._confirmed.clear()
            try:
                index = await self._predictor.index(whole=whole)
            except TriptychError as error:
                self._missed(error)
            else:
                self._misses = 0
                ready = index.ready | self._confirmed
                if not whole:  # what is being unloaded stays that until a whole look says otherwise
                    unloading = before.unloading | (before.ready & self._leaving)
                    index = Index(ready, before.loading, unloading)
                self._set(Index(ready, index.loading - ready, index.unloading - ready), answers=True)

    def _missed(self, error: TriptychError) -> None:
        self._misses += 1
        self.silence = str(error)
        if isinstance(error, StageUnavailable) or self._misses >= MISSES or not self.answers:
            self._failures.clear()  # whoever comes back there is a new process
            self.busy, self.adopted, self.failing = {}, False, {}
            self._set(Index(), answers=False)

    def _set(self, index: Index, *, answers: bool) -> None:
        before = (self.ready, self.answers)
        if answers and not self.answers:
            log.info("predictor answers", extra={"predictor": self.address, "versions_ready": len(index.ready)})
        elif self.answers and not answers:
            log.warning("predictor does not answer", extra={"predictor": self.address, "reason": self.silence})
        if not self._warms_up or (answers and not self.answers):
            self._proven = set(index.ready - self.arriving.keys() if self._warms_up else index.ready)
        self._proven &= index.ready
        self._own = {key: count for key, count in self._own.items() if key in index.ready}
        self._index, self.answers = index, answers
        held = index.ready - self._leaving
        self.ready = held & self._proven
        self._held = {}
        for name, version in held:
            self._held.setdefault(name, set()).add(version)
        now_s = self._clock()
        self.since = {key: self.since.get(key, now_s) for key in index.ready}
        if (self.ready, self.answers) != before:
            self._on_change(self)
