"""Loads and unloads in progress: single-flight for each version on each predictor, capacity reserved from the start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from controller.journal import Journal
from controller.metrics import ControllerMetrics
from controller.placement.planner import Evict, plan_capacity, plan_shared_memory
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.predictor import Predictor
from controller.placement.predictors.triton_client import version_reason
from controller.placement.refusals import MAX_REASON, full, no_shared_memory, outcome_of
from controller.placement.settings import PlacementSettings
from controller.placement.state import Outcome, Replica, State
from controller.placement.warm_up import WarmUp
from triptych.client.triton_errors import NO_SHARED_MEMORY, PROCESS_LOST
from triptych.errors import LoadFailed, TriptychError, Unavailable

POLL_INTERVAL_S = 0.1  # between two observations while something is unloaded
FIRST_POLL_SHARE = 0.9  # of the usual duration of an unload: to list its whole index is work for Triton
MAX_VICTIMS = 4  # versions that one load may evict from shared memory, of which most take 1 MiB
UNLOAD_TIMEOUT_S = 30.0  # a request in flight may take that long; afterwards the capacity still counts as taken


class Executor(Protocol):
    """Carries out what a load plans, and learns its outcome."""

    def execute(self, actions: Sequence[Evict]) -> None: ...

    def load_ended(self, key: VersionKey, predictor: Predictor, error: Outcome) -> None: ...


class Loader:
    """Starts loads and unloads and follows each to its end."""

    def __init__(
        self,
        settings: PlacementSettings,
        metrics: ControllerMetrics,
        journal: Journal,
        state: State,
        executor: Executor,
    ) -> None:
        self._settings, self._metrics, self._journal = settings, metrics, journal
        self._state, self._versions, self._in_progress = state, state.versions, state.in_progress
        self._executor = executor
        self._warm_up = WarmUp(settings, metrics)
        self._found_warm_ups: dict[Replica, asyncio.Task[None]] = {}  # of versions that another client has loaded
        self._cancellable: set[Replica] = set()  # unloads that have not begun in Triton

    def load(self, key: VersionKey, predictor: Predictor, reason: str) -> asyncio.Task[Outcome]:
        """The running load of the version there, else a new one. Its result is the error."""
        if (task := self._in_progress.loading(key).get(predictor.address)) is None:
            replica = (key, predictor.address)
            predictor.reserved[key] = size = self._versions.size_of(key)
            predictor.headroom.load_begins(size.bytes, self._state.now_s)
            task = asyncio.create_task(self._run_load(key, predictor, reason))
            self._in_progress.add_load(replica, task)
            self._metrics.loading.set(len(self._in_progress.loads))
            task.add_done_callback(partial(self._load_done, replica, predictor))
        return task

    def unload(self, eviction: Evict, predictor: Predictor) -> asyncio.Task[None]:
        """The running unload of the version there, else a new one. It ends when the index no longer has the version."""
        replica = (eviction.key, predictor.address)
        if (task := self._in_progress.unloads.get(replica)) is None:
            announced = eviction.key in predictor.ready and not eviction.immediate
            predictor.withdraw(eviction.key)
            task = asyncio.create_task(self._run_unload(eviction, predictor, announced=announced))
            self._in_progress.add_unload(replica, task)
            task.add_done_callback(partial(self._unload_done, replica))
        return task

    def warm_up_found(self, predictor: Predictor, leads: bool) -> None:
        """Warm up versions that another client has loaded there. Only the leader unloads one that fails."""
        for key in predictor.not_warm - predictor.reserved.keys():
            replica = (key, predictor.address)
            if replica not in self._found_warm_ups and not predictor.failure(key):
                task = asyncio.create_task(self._warm_up_one_found(key, predictor, leads))
                self._found_warm_ups[replica] = task
                task.add_done_callback(partial(self._warm_up_done, replica))

    async def cancel_unloads(self, key: VersionKey) -> None:
        """Cancel the unloads of a version that Triton has not been asked for yet."""
        pending = [self._in_progress.unloads[replica] for replica in self._cancellable if replica[0] == key]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def close(self) -> None:
        """Cancel everything here; Triton finishes by itself what it has begun."""
        in_progress = self._in_progress
        tasks = [*in_progress.loads.values(), *in_progress.unloads.values(), *self._found_warm_ups.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_load(self, key: VersionKey, predictor: Predictor, reason: str) -> Outcome:
        """One load, from the reservation to its outcome, which is counted and written down."""
        start, error = time.perf_counter(), None
        try:
            await self._wait_for_capacity(key, predictor)
            start = await self._load_in_slot(key, predictor)
        except TriptychError as raised:
            error = raised
        seconds = time.perf_counter() - start
        if error is None:
            self._in_progress.load_s.add(seconds)
            predictor.headroom.load_took(seconds)
        self._metrics.loads.labels(outcome_of(error)).inc()
        self._metrics.load_seconds.observe(seconds)
        self._journal.write("load", *key, predictor.address, reason, seconds, str(error) if error else "ok")
        return error

    async def _wait_for_capacity(self, key: VersionKey, predictor: Predictor) -> None:
        """Return when the predictor has capacity for its reservations up to this one. Raises `Overloaded`."""
        max_wait_s, state = self._settings.capacity_wait_s, self._state
        while not state.deficit(predictor, key).is_zero:
            evictions = plan_capacity(state, key, predictor)
            if isinstance(evictions, float):
                if evictions > max_wait_s:
                    raise full(predictor, evictions)
                max_wait_s -= evictions
                await asyncio.sleep(max(evictions, POLL_INTERVAL_S))
                continue
            self._executor.execute(evictions)
            if unloads := self._in_progress.unloading(predictor.address):
                await asyncio.wait(list(unloads.values()), return_when=asyncio.FIRST_COMPLETED)
            else:  # Triton unloads for another client
                await asyncio.sleep(POLL_INTERVAL_S)
                await predictor.refresh()

    async def _load_in_slot(self, key: VersionKey, predictor: Predictor) -> float:
        """Load in a slot of the predictor, and return the start. Evict others if shared memory is full.

        A load whose process was lost is tried once more: the kernel may have ended it for want of memory.
        """
        max_wait_s, lost = self._settings.capacity_wait_s, False
        for _ in range(1 + MAX_VICTIMS):
            if unloading := self._in_progress.unloads.get((key, predictor.address)):
                await asyncio.wait([unloading])
            try:
                async with predictor.load_slots, predictor.locks[key[0]]:
                    start = time.perf_counter()
                    await self._load_once(key, predictor)
                    return start
            except LoadFailed as error:
                if PROCESS_LOST.search(error.reason) and not lost:
                    lost = True
                    continue
                if not NO_SHARED_MEMORY.search(error.reason):
                    raise
            max_wait_s = await self._free_shared_memory(key, predictor, max_wait_s)
        raise no_shared_memory(predictor, self._in_progress.load_s.value)

    async def _free_shared_memory(self, key: VersionKey, predictor: Predictor, max_wait_s: float) -> float:
        """Evict one version, or wait until that is possible; return the rest of the wait. Raises `Overloaded`."""
        evictions = plan_shared_memory(self._state, key, predictor)
        if isinstance(evictions, float):
            if evictions > max_wait_s:
                raise no_shared_memory(predictor, evictions)
            await asyncio.sleep(max(evictions, POLL_INTERVAL_S))
            return max_wait_s - evictions
        self._executor.execute(evictions)
        unloads = self._in_progress.unloading(predictor.address)
        if running := [unloads[eviction.key] for eviction in evictions if eviction.key in unloads]:
            await asyncio.wait(running)
        return max_wait_s

    async def _load_once(self, key: VersionKey, predictor: Predictor) -> None:
        """Raises `LoadFailed` when the version is not ready and warm afterwards."""
        if await predictor.refresh_if_old() and not predictor.available:  # gone before: no fault of the version
            raise Unavailable(predictor.unavailable_reason)
        await self._wait_for_foreign_load(key, predictor)
        config = self._versions.config_of(key[0])
        if config is None:
            raise LoadFailed(key[0], "it was removed from the catalog")
        if key in predictor.ready:
            return
        if why := await self._versions.changed(key[0], predictor.held_versions(key[0]) | {key[1]}):
            raise LoadFailed(key[0], why)
        try:
            await predictor.load(key[0], config, key[1], self._settings.load_timeout_s)
        except TriptychError as error:
            await predictor.refresh()
            if not isinstance(error, LoadFailed):
                raise
            self._record_refusal(key)
            raise LoadFailed(key[0], version_reason(error.reason, key[1])[:MAX_REASON]) from error
        if why := await self._versions.changed(key[0], {key[1]}, loaded=True):
            self._executor.execute([Evict(key, predictor.address, "changed while it was loaded")])
            raise LoadFailed(key[0], why)
        await self._confirm(key, predictor)
        await self._check_warm_up(key, predictor, leads=True)

    async def _wait_for_foreign_load(self, key: VersionKey, predictor: Predictor) -> None:
        """Wait while Triton loads the version for an earlier process of the controller. Raises `LoadFailed`."""
        end = time.perf_counter() + self._settings.load_timeout_s
        while key in predictor.loading:
            if time.perf_counter() > end:  # it hangs, and the other models need the slot
                raise LoadFailed(key[0], f"Triton has been loading it for {self._settings.load_timeout_s:g} s")
            await asyncio.sleep(POLL_INTERVAL_S)
            await predictor.refresh(whole=True)

    async def _confirm(self, key: VersionKey, predictor: Predictor) -> None:
        """Raises `LoadFailed` or `Unavailable` when Triton does not report the loaded version as ready."""
        if await predictor.confirm(key):
            return
        await predictor.refresh()
        while predictor.stale and predictor.available:  # Triton loaded it, and is too busy to answer
            await asyncio.sleep(POLL_INTERVAL_S)
            await predictor.refresh()
        if predictor.holds(key):
            return
        if not predictor.available:
            raise Unavailable(predictor.unavailable_reason)
        self._record_refusal(key)
        raise LoadFailed(key[0], await predictor.not_ready_reason(key))

    async def _check_warm_up(self, key: VersionKey, predictor: Predictor, *, leads: bool) -> None:
        """Raises the errors of `WarmUp.check`; a version that fails is unloaded and never gets a request."""
        if key in predictor.not_warm:
            await self._warm(key, predictor, leads=leads)
        predictor.mark_warm(key)

    async def _warm(self, key: VersionKey, predictor: Predictor, *, leads: bool) -> None:
        """Raises the errors of `WarmUp.check`. A load parses the contract only here."""
        plan, config = await self._versions.plan_of(key), self._versions.config_of(key[0])
        if plan is None or config is None:
            return
        try:
            await self._warm_up.check(key, predictor, plan, config)
        except LoadFailed as error:
            self._record_refusal(key)
            if leads:
                lost = bool(PROCESS_LOST.search(error.reason))  # the end of its unload may never come
                self._executor.execute([Evict(key, predictor.address, "warm-up failed", immediate=lost)])
            raise

    async def _warm_up_one_found(self, key: VersionKey, predictor: Predictor, leads: bool) -> None:
        try:
            await self._check_warm_up(key, predictor, leads=leads)
        except LoadFailed as error:
            self._executor.load_ended(key, predictor, error)
        except TriptychError:  # not the model's fault: the next observation tries again
            return

    def _record_refusal(self, key: VersionKey) -> None:
        self._versions.record_refusal(key, loaded=self._state.replicas(key) > 0)

    async def _run_unload(self, eviction: Evict, predictor: Predictor, *, announced: bool) -> None:
        """One unload to its end. `announced`: the stages know the version as ready and hear of its end first."""
        key, start, outcome = eviction.key, time.perf_counter(), "ok"
        try:
            if announced:
                await self._announce((key, predictor.address))
            async with predictor.locks[key[0]]:
                if why := await self._versions.changed(key[0], predictor.held_versions(key[0])):
                    raise LoadFailed(key[0], f"the unload would load other versions anew: {why}")
                config = self._versions.config_of(key[0])
                await predictor.unload(key[0], config, self._settings.load_timeout_s)
            outcome = await self._wait_unloaded(eviction, predictor, start)
        except TriptychError as error:
            outcome = str(error)
        finally:
            predictor.end_withdrawal(key)
        self._metrics.unloads.labels(eviction.reason.partition(" ")[0]).inc()
        seconds = time.perf_counter() - start
        self._journal.write("unload", *key, predictor.address, eviction.reason, seconds, outcome)

    async def _wait_unloaded(self, eviction: Evict, predictor: Predictor, start: float) -> str:
        """Wait until the index no longer has the version; return the outcome."""
        key = eviction.key
        remains = predictor.is_indexed_ready if eviction.immediate else predictor.in_memory
        if not eviction.immediate:
            await asyncio.sleep(FIRST_POLL_SHARE * predictor.headroom.unload_s.value - (time.perf_counter() - start))
        await predictor.refresh(whole=True)
        while remains(key) and time.perf_counter() - start < UNLOAD_TIMEOUT_S:
            await asyncio.sleep(POLL_INTERVAL_S)
            await predictor.refresh(whole=True)
        if not eviction.immediate:
            predictor.headroom.unload_took(time.perf_counter() - start)
        return f"not gone after {UNLOAD_TIMEOUT_S:.0f} s" if remains(key) else "ok"

    async def _announce(self, replica: Replica) -> None:
        """Wait until the stages know that the version is withdrawn. Until then `cancel_unloads` works."""
        self._cancellable.add(replica)
        try:
            await asyncio.sleep(self._settings.withdraw_s)
        finally:
            self._cancellable.discard(replica)

    def _load_done(self, replica: Replica, predictor: Predictor, task: asyncio.Task[Outcome]) -> None:
        key, _ = replica
        self._in_progress.remove_load(replica)
        predictor.reserved.pop(key, None)
        self._metrics.loading.set(len(self._in_progress.loads))
        if task.cancelled():
            return
        if error := task.exception():
            self._journal.fault(error, key[0])
        else:
            self._executor.load_ended(key, predictor, task.result())

    def _unload_done(self, replica: Replica, task: asyncio.Task[None]) -> None:
        self._in_progress.remove_unload(replica)
        self._report_fault(replica, task)

    def _warm_up_done(self, replica: Replica, task: asyncio.Task[None]) -> None:
        del self._found_warm_ups[replica]
        self._report_fault(replica, task)

    def _report_fault(self, replica: Replica, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._journal.fault(error, replica[0][0])
