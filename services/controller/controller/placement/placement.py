"""Placement: a version is loaded when a request comes for it, on the predictor that its model prefers.

The observed state is Triton's own: what is loaded is read from its index, also after a restart of either side. Counts
kept here (popularity, desired replicas) only improve decisions, and build up again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from controller.catalog.entities import Catalog, Model
from controller.journal import Journal
from controller.metrics import ControllerMetrics
from controller.placement.planner import Refuse, plan_request
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.fleet import Fleet
from controller.placement.predictors.triton_client import TritonApi
from controller.placement.reconciler import Reconciler
from controller.placement.settings import PlacementSettings
from controller.placement.state import Outcome, State
from controller.placement.version_facts import VersionFacts
from triptych.errors import DeadlineExceeded, StageUnavailable, Unavailable
from triptych.protocol.call import Call

MAX_ATTEMPTS = 2  # predictors on which one request has a version loaded, when the first becomes unavailable


class Placement:
    """The versions that each predictor holds. Calls `publish` with the models whose replicas or failures changed."""

    def __init__(
        self,
        connect: Callable[[str], TritonApi],
        settings: PlacementSettings,
        metrics: ControllerMetrics,
        journal: Journal,
        publish: Callable[[set[str]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._metrics, self._journal = settings, metrics, journal
        slots, warms_up = settings.max_concurrent_loads, settings.warm_up
        self.versions = VersionFacts(settings)
        self.fleet = Fleet(connect, slots, self._replicas_changed, clock, warms_up=warms_up)
        self.state = State(settings, self.fleet, self.versions, clock)
        self.reconciler = Reconciler(settings, metrics, journal, self.state, publish)
        self._repair = self.reconciler.repair

    def set_catalog(self, catalog: Catalog) -> None:
        """Follow a catalog: its models may be loaded, and some stay loaded."""
        before, now = self.versions.catalog.models, catalog.models
        changed = {name for name, model in now.items() if before.get(name) is not model} | (before.keys() - now.keys())
        self.reconciler.set_catalog(catalog, changed)
        for name in changed & before.keys() & now.keys():
            if _was_read_again(before[name], now[name]) and self.fleet.forget_failures(name):
                self.reconciler.models_changed({name})

    def serve(self, model: str, shares: Mapping[int, int], gated: frozenset[int]) -> None:
        """Follow the shares of the versions in force, and the versions that are loaded before they get one."""
        self.reconciler.set_traffic(model, shares, gated)

    async def ensure_loaded(
        self, model: str, version: int, call: Call, failing: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Addresses that have the version ready, after a load where needed.

        `failing` are addresses where a stage found that it cannot run. The caller's deadline ends its wait, never the
        load. Raises `LoadFailed`, `Unavailable`, `Overloaded`, `DeadlineExceeded`.
        """
        key = (model, version)
        with self.reconciler.waiting(key):
            try:
                async with asyncio.timeout(call.remaining_s()):
                    return await self._ensure(key, call, failing)
            except TimeoutError:
                raise DeadlineExceeded(f"model '{model}' was not loaded before the call's deadline") from None

    def failures(self, model: str, versions: Collection[int]) -> dict[int, str]:
        """Reasons of recently failed loads, which are not tried at this moment."""
        return self.fleet.failures(model, versions)

    def last_failures(self, model: str, versions: Collection[int]) -> dict[int, str]:
        """Reasons of versions whose last load failed."""
        self.state.history.record_ready([(model, version) for version in self.fleet.ready_addresses(model)])
        return self.state.history.last_failures(model, versions)

    def trying(self, model: str, versions: Collection[int]) -> frozenset[int]:
        """Versions that are being loaded, or will be without a request."""
        failed, state = self.failures(model, versions), self.state
        gated = {each for each in versions if state.desired.is_gated((model, each)) and each not in failed}
        return frozenset(gated | {each for each in versions if state.in_progress.loading((model, each))})

    def failing(self, model: str, versions: Collection[int]) -> dict[int, str]:
        """Reasons of versions that cannot run on any predictor that has them ready."""
        found = {}
        for version, why in self._repair.failing(model, versions).items():
            key = (model, version)
            if self.fleet.holders(key) and not self.serves(key):
                found[version] = why
        return found

    def target(self, key: VersionKey) -> int:
        """Replicas that the version is to have."""
        return self.state.desired.target(key)

    def serves(self, key: VersionKey) -> bool:
        """Whether a predictor has the version ready and no known failure of it."""
        return any(self._repair.runs(key, each) for each in self.fleet.holders(key))

    async def close(self) -> None:
        """Cancel loads and unloads, which Triton finishes by itself, and close the connections."""
        await self._repair.close()
        await self.reconciler.loader.close()
        await self.fleet.close()

    async def _ensure(self, key: VersionKey, call: Call, failing: Collection[str]) -> tuple[str, ...]:
        if holders := self.fleet.holders(key):
            # A caller that asks for a ready version did not find it there: Triton may have restarted meanwhile.
            await asyncio.gather(*(each.refresh() for each in holders))
            await self._repair.check(key, [each for each in holders if each.address in failing])
        self.state.popularity.record(key, 0, self.state.now_s)  # it is in use; Triton will count the request
        if addresses := self._addresses(key):
            return addresses
        self.reconciler.use(key)
        await self.reconciler.loader.cancel_unloads(key)
        if addresses := self._addresses(key):
            return addresses
        self._metrics.cold_requests.inc()
        error: Outcome = None
        for _ in range(MAX_ATTEMPTS):
            error = await asyncio.shield(await self._load(key, call))
            if addresses := self._addresses(key):
                return addresses
            if not isinstance(error, StageUnavailable):  # else another predictor may load it
                break
        raise (error or Unavailable(f"{key[0]} was loaded and is gone again; try again")).with_traceback(None)

    def _addresses(self, key: VersionKey) -> tuple[str, ...]:
        """Raises `ModelFailing` when the version cannot run on any predictor that has it ready."""
        holders = self.fleet.holders(key)
        running = tuple(each.address for each in holders if self._repair.runs(key, each))
        if holders and not running:
            raise self._repair.refusal(key, holders)
        return running

    async def _load(self, key: VersionKey, call: Call) -> asyncio.Task[Outcome]:
        """The load of the version that already runs, else a new one. Raises the error of a refusal.

        A predictor that was not observed lately is looked at first, so that none is chosen that is gone.
        """
        if not self.fleet.available():
            await self.fleet.refresh()
        while not (running := self.state.in_progress.loading(key)):
            max_wait_s = call.remaining_s(self._settings.capacity_wait_s)
            action = plan_request(self.state, key, max_wait_s, call.remaining_s())
            if isinstance(action, Refuse):
                raise self._record_refusal(key, action)
            predictor = self.fleet.get(action.address)
            if predictor is None or not await predictor.refresh_if_old():  # no pause: the plan still holds
                self.reconciler.execute([action])
                return self.state.in_progress.loading(key)[action.address]
        return next(iter(running.values()))

    def _record_refusal(self, key: VersionKey, refusal: Refuse) -> Exception:
        if refusal.is_overload:
            self._metrics.loads.labels("refused").inc()
            self._journal.refused(*key, str(refusal.error))
        if refusal.remember:
            for each in self.fleet.available():
                each.remember_failure(key, refusal.remember, self._settings.failure_ttl_s)
            self.state.history.record_failure(key, refusal.remember)
            self.reconciler.models_changed({key[0]})
        return refusal.error

    def _replicas_changed(self, keys: set[VersionKey]) -> None:
        self.reconciler.replicas_changed(keys)


def _was_read_again(before: Model, now: Model) -> bool:
    """Whether something in the model's folder changed: perhaps the reason of a failed load was repaired."""
    return before.encoded_config is not now.encoded_config and not _only_recorded_digests(before, now)


def _only_recorded_digests(before: Model, now: Model) -> bool:
    """Whether the folder was read again for its digests, which the first scan leaves to the next."""
    without_digests = {number: replace(each, files=None) for number, each in now.versions.items()}
    is_new = any(
        each.files is None and now.versions[n].files for n, each in before.versions.items() if n in without_digests
    )
    return is_new and before.encoded_config == now.encoded_config and before.versions == without_digests
