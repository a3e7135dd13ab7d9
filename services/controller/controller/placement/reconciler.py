"""The reconcile loop: observe, plan, execute, publish. The only writer of the desired state.

Events only mark what is due: a version whose replicas or target changed, a predictor with a new observation, a model to
publish. One turn then plans everything that is due, executes the plan and publishes once, so no event re-enters the
code that raised it. Turns look at what is due, never at all versions. What a turn could not satisfy stays due and is
tried again by the periodic turn, a bounded number of versions at a time.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from typing import Any

from controller.catalog.entities import Catalog
from controller.journal import Journal
from controller.metrics import ControllerMetrics
from controller.placement.loader import Loader
from controller.placement.planner import REBALANCE_BELOW, REBALANCED_KEYS, Action, Due, Load, plan
from controller.placement.policy.memory import MemoryMeter
from controller.placement.policy.popularity import VersionKey
from controller.placement.policy.replica_count import Concurrency, ReplicaCount
from controller.placement.predictors.discovery import Discovery
from controller.placement.predictors.predictor import Predictor
from controller.placement.repair import Repair
from controller.placement.settings import PlacementSettings
from controller.placement.state import Outcome, State
from triptych.errors import LoadFailed, StageUnavailable

log = logging.getLogger(__name__)

KEYS_PER_TURN = 100  # unsatisfied versions that one turn tries again: ranking 500 predictors takes 0.5 ms for each
KEYS_EXAMINED = 5000  # versions that one turn looks at to find these; each takes 2 us
OBSERVATIONS_PER_S = 100  # of a fleet with traffic: an observation takes 1 to 2.5 ms of a core
QUIET_OBSERVATIONS_PER_S = 25  # of a fleet without
PRUNE_INTERVAL_S = 30.0  # a pass over all remembered versions takes 20 ms with 100,000


class Reconciler:
    """Observes each predictor on its own, so that one that hangs delays none, and plans for all of them together."""

    def __init__(
        self,
        settings: PlacementSettings,
        metrics: ControllerMetrics,
        journal: Journal,
        state: State,
        publish: Callable[[set[str]], None],
    ) -> None:
        self._settings, self._metrics, self._journal, self._state = settings, metrics, journal, state
        self._publish = publish
        self.loader = Loader(settings, metrics, journal, state, self)
        self.repair = Repair(settings, metrics, state, self.execute, self.models_changed)
        self.leads = True  # of several controllers one loads and unloads, the others only observe
        self._replica_count = ReplicaCount(settings)
        self._meters: dict[str, MemoryMeter] = {}
        self._observers: dict[str, asyncio.Task[None]] = {}
        self._due = Due()
        self._unsatisfied: dict[VersionKey, None] = {}  # may have fewer replicas than their target; tried in turn
        self._unpublished: set[str] = set()
        self._turn_handle: asyncio.Handle | None = None
        self._rebalance_cursor = 0
        self._pruned_s = state.now_s

    # Events: each marks what is due.

    def set_catalog(self, catalog: Catalog, changed: Collection[str]) -> None:
        """Follow a catalog; `changed` are the models that are new, different or gone."""
        self._state.versions.set_catalog(catalog, changed)
        self._state.history.prune(catalog.models, self._state.now_s)
        self._mark_keys(self._state.desired.set_catalog(changed))

    def set_traffic(self, model: str, shares: Mapping[int, int], gated: frozenset[int]) -> None:
        """Follow the shares of the versions in force, and the versions that are loaded before they get one."""
        change = self._state.desired.set_traffic(model, shares, gated)
        if change is not None:
            for key in change.gaining:
                self._state.popularity.record(key, 0, self._state.now_s)
            self._mark_keys([*change.minimums, *change.gaining])

    def waiting(self, key: VersionKey) -> AbstractContextManager[None]:
        """Protect the version from eviction while a call waits for it."""
        return self._state.desired.waiting(key)

    def use(self, key: VersionKey) -> None:
        """Note that a request asks for a version that is not ready."""
        self._state.desired.use(key)
        self._unsatisfied[key] = None

    def replicas_changed(self, keys: Collection[VersionKey]) -> None:
        """Versions became ready on a predictor, or no longer are."""
        self._mark_keys(keys)
        self.models_changed({name for name, _ in keys})

    def models_changed(self, models: Iterable[str]) -> None:
        """Publish these models in the next turn."""
        self._unpublished.update(models)
        if self._unpublished:
            self._schedule()

    def load_ended(self, key: VersionKey, predictor: Predictor, error: Outcome) -> None:
        """Record the outcome of a load. A failed one is not tried again before the next periodic turn."""
        state = self._state
        if isinstance(error, LoadFailed):
            predictor.remember_failure(key, error.reason, self._settings.failure_ttl_s)
            state.history.record_failure(key, error.reason)
        elif isinstance(error, StageUnavailable):
            state.history.record_crash(key, state.now_s)
        self._unsatisfied[key] = None
        if error is not None:
            self.models_changed({key[0]})
        elif state.fleet.has(predictor):
            self._due.addresses.add(predictor.address)
            self._due.keys.update(self._next_unsatisfied())
            self._schedule()

    def lead(self, leads: bool) -> None:
        """Whether this controller loads and unloads, from now on."""
        self.leads = leads
        self._due.keys.update(self._next_unsatisfied())
        self._schedule()

    # Observation.

    async def run(self, discovery: Discovery, sync_s: float) -> None:
        """Discover and observe predictors, and reconcile, until cancelled."""
        try:
            await every(sync_s, partial(self._sync, discovery, sync_s))
        finally:
            for task in self._observers.values():
                task.cancel()
            await asyncio.gather(*self._observers.values(), return_exceptions=True)

    async def discover(self, discovery: Discovery) -> None:
        """Follow the predictors that exist."""
        new, gone = self._state.fleet.set_addresses(await discovery.addresses())
        for predictor in new:
            self._journal.write("predictor", predictor=predictor.address, reason="came")
        for predictor in gone:
            self._journal.write("predictor", predictor=predictor.address, reason="went")
            self._metrics.forget(predictor.address)
            self._meters.pop(predictor.address, None)
            self._due.addresses.discard(predictor.address)
            self.repair.forget(predictor.address)
            if task := self._observers.pop(predictor.address, None):
                task.cancel()

    async def observe(self, predictor: Predictor) -> None:
        """Read the index and the statistics of a predictor; the next turn plans for it."""
        state, address = self._state, predictor.address
        await predictor.refresh()
        self._metrics.show(address, predictor.available, state.taken(predictor), state.budget(predictor))
        if not predictor.available:
            return
        self.loader.warm_up_found(predictor, self.leads)
        state.history.record_ready(predictor.ready)
        requests, now_s = await predictor.count(), state.now_s
        for key, count in (requests or {}).items():
            state.popularity.record(key, count, now_s)
        if requests is not None:
            self._measure(predictor, now_s)
        self._adopt(predictor, now_s)
        if self.leads:
            self.repair.observe(predictor)
        if state.fleet.has(predictor):
            self._due.addresses.add(address)
            self._schedule()

    # Turns.

    def reconcile(self) -> None:
        """The periodic turn: follow the demand, and try again what could not be satisfied."""
        state, now_s = self._state, self._state.now_s
        state.popularity.loaded_versions = sum(len(predictor.ready) for predictor in state.fleet)
        if now_s - self._pruned_s >= PRUNE_INTERVAL_S:
            self._pruned_s = now_s
            state.popularity.prune(self._settings.idle_ttl_s, now_s)
            state.desired.forget_gone()
        self.models_changed(state.fleet.expire_failures())
        unsatisfied = self._next_unsatisfied()  # of a follower too, so that those that lack nothing are forgotten
        if self.leads:
            self._scale(now_s)
            self._due.keys.update(unsatisfied)
        self._turn(self._underloaded() if self.leads else ())

    def execute(self, actions: Iterable[Action]) -> None:
        """Start each load and eviction. A load that already runs goes on."""
        for action in actions:
            predictor = self._state.fleet.get(action.address)
            if predictor is None:  # it went during a load, which finds out by itself
                continue
            if isinstance(action, Load):
                self.loader.load(action.key, predictor, action.reason)
                continue
            key = action.key
            is_new = (key, action.address) not in self._state.in_progress.unloads
            if action.replaced:
                self._state.desired.use(key)
            elif is_new and key in predictor.ready:
                self._state.desired.release(key)
            self.loader.unload(action, predictor)

    def _schedule(self) -> None:
        if self._turn_handle is None:
            try:
                self._turn_handle = asyncio.get_running_loop().call_soon(self._scheduled_turn)
            except RuntimeError:  # no loop yet: the first periodic turn finds what is due
                return

    def _scheduled_turn(self) -> None:
        self._turn_handle = None
        try:
            self._turn()
        except Exception:
            log.exception("internal error")

    def _turn(self, underloaded: Sequence[tuple[Predictor, Collection[VersionKey]]] = ()) -> None:
        due, self._due = self._due, Due()
        self._unsatisfied.update(dict.fromkeys(due.keys))  # an error below loses none of them
        try:
            if self.leads:
                self.execute(plan(self._state, due, underloaded))
            for key in due.keys:
                self._note_satisfaction(key)
        finally:
            self._publish_changed()

    def _publish_changed(self) -> None:
        """Publish the changed models together. After an error each alone; those that fail stay due."""
        models, self._unpublished = self._unpublished, set()
        try:
            if models:
                self._publish(models)
        except Exception:
            log.exception("internal error")
            for name in models:
                try:
                    self._publish({name})
                except Exception:
                    log.exception("internal error", extra={"model": name})
                    self._unpublished.add(name)

    def _mark_keys(self, keys: Iterable[VersionKey]) -> None:
        """Plan for versions with a minimum in the next turn, and for the others in the next periodic one."""
        for key in keys:
            if self._state.desired.minimum(key):
                self._due.keys.add(key)
            else:
                self._unsatisfied[key] = None
        if self._due.keys:
            self._schedule()

    def _next_unsatisfied(self) -> list[VersionKey]:
        """The next versions to try again; each has its turn before one has it twice. Drops those that lack nothing."""
        keys: list[VersionKey] = []
        for key in list(islice(self._unsatisfied, KEYS_EXAMINED)):
            del self._unsatisfied[key]
            if self._lacks_replica(key):
                self._unsatisfied[key] = None
                keys.append(key)
                if len(keys) == KEYS_PER_TURN:
                    break
        return keys

    def _lacks_replica(self, key: VersionKey) -> bool:
        return self._state.replicas(key) < self._state.desired.target(key)

    def _note_satisfaction(self, key: VersionKey) -> None:
        """Keep trying a version as long as it lacks a replica that it needs without a request."""
        state = self._state
        if self._lacks_replica(key) and (not self.leads or state.desired.minimum(key) or state.is_in_use(key)):
            self._unsatisfied[key] = None
        else:
            self._unsatisfied.pop(key, None)

    async def _sync(self, discovery: Discovery, sync_s: float) -> None:
        await self.discover(discovery)
        fleet = self._state.fleet
        for predictor in fleet:
            if predictor.address not in self._observers:
                task = asyncio.create_task(self._keep_observing(predictor, sync_s))
                self._observers[predictor.address] = task
        self.reconcile()

    async def _keep_observing(self, predictor: Predictor, sync_s: float) -> None:
        """Observe a predictor until cancelled; an error is logged. A load shortens the pause that is running."""
        while True:
            try:
                await self.observe(predictor)
            except Exception:
                log.exception("internal error")
            paused_s = 0.0
            while paused_s < (interval_s := self._interval_s(predictor, sync_s)):
                predictor.observed_every_s = interval_s
                step_s = min(sync_s, interval_s - paused_s)
                await asyncio.sleep(step_s)
                paused_s += step_s

    def _interval_s(self, predictor: Predictor, sync_s: float) -> float:
        """Seconds between two observations of a predictor: in a large fleet longer, without traffic most of all."""
        if predictor.available and predictor.stale:  # busy or gone: a few misses tell
            return sync_s
        newest_s = max(predictor.ready_since.values(), default=-math.inf)
        is_new = self._state.now_s - newest_s < self._settings.min_loaded_s  # perhaps its traffic has just begun
        in_use = predictor.statistics.concurrency or predictor.unsettled or is_new
        is_quiet = predictor.available and not in_use
        return max(sync_s, len(self._state.fleet) / (QUIET_OBSERVATIONS_PER_S if is_quiet else OBSERVATIONS_PER_S))

    def _adopt(self, predictor: Predictor, now_s: float) -> None:
        """Want what a predictor has and this process did not load, until it proves otherwise."""
        state = self._state
        for key in predictor.ready:
            if not (predictor.adopted and state.desired.is_tracked(key)):
                state.desired.adopt(key)
                state.popularity.record(key, 0, now_s)
        predictor.adopted = True

    def _scale(self, now_s: float) -> None:
        """Want more replicas of versions with waiting requests, and fewer of those that cooled down."""
        concurrency: defaultdict[VersionKey, Concurrency] = defaultdict(Concurrency)
        for predictor in self._state.fleet:
            for key, there in predictor.statistics.concurrency.items():
                concurrency[key] += there
        for key in {*concurrency, *self._replica_count.pending, *self._state.desired.scaled}:
            self._scale_one(key, concurrency.get(key, Concurrency()), now_s)
        for key in self._state.desired.scaled:  # one that lost a replica while it was idle may be in use again
            if self._lacks_replica(key) and self._state.is_in_use(key):
                self._unsatisfied.setdefault(key)

    def _scale_one(self, key: VersionKey, concurrency: Concurrency, now_s: float) -> None:
        replicas = self._state.replicas(key)
        if not replicas:
            self._replica_count.forget(key)
            return
        change = self._replica_count.change(key, replicas, concurrency, now_s)
        wanted = min(max(1, replicas + change), len(self._state.fleet.available()))
        if change and wanted != replicas:
            self._state.desired.scale(key, wanted)
            self._due.keys.add(key)
            load = f"{concurrency.waiting:.1f} requests wait, {concurrency.in_flight:.1f} in all"
            self._journal.write("replicas", *key, reason=f"{replicas} to {wanted}: {load}")

    def _underloaded(self) -> list[tuple[Predictor, list[VersionKey]]]:
        """Predictors that came, or came back empty, each with the next few versions that others hold."""
        available = self._state.fleet.available()
        total, others = sum(len(each.ready) for each in available), len(available) - 1
        if others < 1:
            return []
        underloaded = [
            each for each in available if len(each.ready) < REBALANCE_BELOW * (total - len(each.ready)) / others
        ]
        if not underloaded:
            return []
        keys = [key for each in available if each not in underloaded for key in each.ready]
        start = self._rebalance_cursor % max(1, len(keys))
        self._rebalance_cursor = start + REBALANCED_KEYS
        keys = [*keys[start:], *keys[:start]][:REBALANCED_KEYS]
        return [(each, keys) for each in underloaded]

    def _measure(self, predictor: Predictor, now_s: float) -> None:
        """Learn the memory of a version from the GPU's, when nothing else changed there."""
        if predictor.gpu is None:
            return
        meter = self._meters.setdefault(predictor.address, MemoryMeter())
        used_bytes, settled = predictor.gpu.used_bytes, not predictor.unsettled
        if measured := meter.observe(predictor.ready, used_bytes, now_s, settled=settled):
            self._state.versions.record_size(*measured)


async def every(seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Repeat the work; an error is logged and does not end it."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("internal error")
        await asyncio.sleep(seconds)
