"""Loads a version when a request comes for it, on the Triton where it belongs, within that Triton's budget.

State lives in Triton: what is loaded is read from its index, after a restart of either side too. What is counted here
(who is used how much, how many copies are wanted) only makes better choices, and builds up again.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from controller.catalog.builder import Catalog, Model
from controller.journal import Journal
from controller.metrics import ControllerMetrics
from controller.placement.desired_state import Needs
from controller.placement.fleet import Fleet
from controller.placement.loader import Moves
from controller.placement.policy.eviction import Room
from controller.placement.policy.popularity import Key
from controller.placement.predictor import Pod
from controller.placement.reconciler import Upkeep
from controller.placement.refusals import full, hung
from controller.placement.repair import Repair
from controller.placement.settings import Limits
from controller.placement.triton_client import Predictor
from triptych.errors import DeadlineExceeded, LoadFailed, Overloaded, StageUnavailable, TriptychError, Unavailable
from triptych.protocol.call import Call

TRIES = 2  # Tritons on which one request has a version loaded, when the first goes away


class Residency:
    """What is loaded where. `on_change` is told the models whose placement or failures changed."""

    def __init__(
        self,
        connect: Callable[[str], Predictor],
        limits: Limits,
        metrics: ControllerMetrics,
        journal: Journal,
        on_change: Callable[[set[str]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._metrics, self._journal, self._on_change = limits, metrics, journal, on_change
        self.clock = clock
        self.fleet = Fleet(connect, limits.max_concurrent_loads, on_change, clock, warms_up=limits.warm_up)
        self.needs = Needs(limits, self.fleet, clock)
        self.moves = Moves(limits, metrics, journal, self.needs, self._load_ended, clock)
        self.repair = Repair(limits, metrics, self.needs, self.moves, on_change, clock)
        self.upkeep = Upkeep(limits, metrics, journal, self.fleet, self.needs, self.moves, self.repair, clock)

    def set_catalog(self, catalog: Catalog) -> None:
        """What may be loaded, and what stays loaded, from now on."""
        before = self.needs.catalog.models
        self.needs.set_catalog(catalog)
        for name, model in catalog.models.items():
            if name in before and _was_read_again(before[name], model):
                self.fleet.forget_failures(name)
        self.upkeep.complete()

    def serve(self, model: str, in_force: Mapping[int, int], to_prove: frozenset[int]) -> None:
        """Shares of the versions that have traffic now, and versions to be loaded once before they get some."""
        if self.needs.set_traffic(model, in_force, to_prove):
            self.upkeep.complete()

    async def ensure_loaded(
        self, model: str, version: int, call: Call, failing: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Addresses that have the version ready, after loading it where needed.

        `failing` are addresses where a stage found that it cannot run. The caller's deadline ends its wait, never the
        load. Raises `LoadFailed`, `Unavailable`, `Overloaded`, `DeadlineExceeded`.
        """
        key = (model, version)
        with self.needs.asked(key):
            try:
                async with asyncio.timeout(call.remaining_s()):
                    return await self._ensure(key, call, failing)
            except TimeoutError:
                raise DeadlineExceeded(f"model '{model}' was not loaded before the call's deadline") from None

    def failures(self, model: str, versions: Collection[int]) -> dict[int, str]:
        """Why versions could not be loaded lately, so that it is not tried at this moment."""
        return self.fleet.failures(model, versions)

    def last_failures(self, model: str, versions: Collection[int]) -> dict[int, str]:
        """Why versions could not be loaded when it was tried last."""
        self.needs.loaded([(model, version) for version in self.fleet.placement(model)])
        return self.needs.last_failures(model, versions)

    def trying(self, model: str, versions: Collection[int]) -> frozenset[int]:
        """The versions that are loaded at this moment, or will be without being asked for."""
        failed = self.failures(model, versions)
        proving = {version for version in versions if (model, version) in self.needs.proving and version not in failed}
        return frozenset(proving | {version for version in versions if self.moves.loading((model, version))})

    def failing(self, model: str, versions: Collection[int]) -> dict[int, str]:
        """Why versions cannot run on any of the Tritons that have them ready."""
        found = {}
        for version, why in self.repair.failing(model, versions).items():
            key = (model, version)
            if self.fleet.holders(key) and not self.serves(key):
                found[version] = why
        return found

    def serves(self, key: Key) -> bool:
        """Whether a Triton has the version ready, and nothing is known against it there."""
        return any(self.repair.runs(key, pod) for pod in self.fleet.holders(key))

    async def close(self) -> None:
        """Ends the moves that run (Triton finishes them by itself) and closes the channels."""
        await self.repair.close()
        await self.moves.close()
        await self.fleet.close()

    async def _ensure(self, key: Key, call: Call, failing: Collection[str]) -> tuple[str, ...]:
        if holders := self.fleet.holders(key):
            # Whoever asks for what is loaded did not find it there: Triton may have restarted meanwhile.
            await asyncio.gather(*(pod.refresh() for pod in holders))
            await self.repair.check(key, [pod for pod in holders if pod.address in failing])
        self.needs.usage.record(key, 0, self.clock())  # it is in use; Triton will count the request
        if addresses := self._addresses(key):
            return addresses
        self.needs.wanted[key] = max(1, self.needs.wanted[key])
        await self.moves.keep(key)
        if addresses := self._addresses(key):
            return addresses
        self._metrics.cold_requests.inc()
        error: TriptychError | None = None
        for _ in range(TRIES):
            under_way = list(self.moves.loading(key).values())
            task = under_way[0] if under_way else self.moves.load(key, await self._choose(key, call), "request")
            error = await asyncio.shield(task)
            if addresses := self._addresses(key):
                return addresses
            if not isinstance(error, StageUnavailable):  # else another Triton may have it
                break
        raise (error or Unavailable(f"{key[0]} was loaded and is gone again; try again")).with_traceback(None)

    def _addresses(self, key: Key) -> tuple[str, ...]:
        """Raises `ModelFailing` when the version cannot run wherever it is."""
        holders = self.fleet.holders(key)
        running = tuple(pod.address for pod in holders if self.repair.runs(key, pod))
        if holders and not running:
            raise self.repair.refusal(key, holders)
        return running

    async def _choose(self, key: Key, call: Call) -> Pod:
        """The Triton to load on: the first with room in the order of their claim, else where room is made soonest."""
        ranked = await self._candidates(key)
        chosen = next((pod for pod in ranked if self.moves.lack(pod, key).nothing), None)
        if chosen is None:
            wait_s, chosen = self._soonest(key, ranked)
            if wait_s > call.remaining_s(self._limits.room_wait_s):
                raise self._refused(key, full(chosen, wait_s))
        if (queue_s := self.moves.queue_s(chosen)) > call.remaining_s():
            text = f"{self.moves.loads_on(chosen)} loads are waiting at predictor {chosen.address}"
            raise self._refused(key, Overloaded(f"{text}; try again in {math.ceil(queue_s)} s", retry_after_s=queue_s))
        return chosen

    def _soonest(self, key: Key, ranked: Sequence[Pod]) -> tuple[float, Pod]:
        """The Triton where room is made soonest, and when; of equal ones the first."""
        waits = []
        for pod in ranked:
            waits.append((self.moves.wait_s(pod, key), pod))
            if not waits[-1][0]:
                break
        return min(waits, key=lambda each: each[0])

    async def _candidates(self, key: Key) -> Sequence[Pod]:
        """The Tritons that could hold the version if they were empty, in the order of their claim."""
        if not self.fleet.answering():
            await self.fleet.refresh()
        ranked = self.fleet.ranked(key[0])
        if not ranked:
            raise Unavailable(next((pod.silence for pod in self.fleet), "no predictor is known yet"))
        ranked = [pod for pod in ranked if not hung(pod.failure(key))] or ranked
        if reason := next((reason for pod in ranked if (reason := pod.failure(key))), ""):
            raise LoadFailed(key[0], reason)
        if (deaths := self.needs.blamed(key, self.clock())) >= TRIES:
            raise LoadFailed(key[0], f"{deaths} Tritons went away while they loaded it; it is left alone for a while")
        if not self.needs.can_load(key):
            raise LoadFailed(key[0], self.needs.cannot_load(key))
        size = self.needs.size_of(key)
        fitting = [pod for pod in ranked if Room(1, size.bytes).lacks(self.moves.budget(pod)).nothing]
        if not fitting:
            most = max(self.moves.budget(pod).bytes for pod in ranked)
            reason = f"it takes {size.bytes} bytes ({size.source}), and no predictor has a budget of more than {most}"
            for pod in ranked:
                pod.remember_failure(key, reason, self._limits.failure_ttl_s)
            self.needs.failed(key, reason)
            self._on_change({key[0]})
            raise LoadFailed(key[0], reason)
        return fitting

    def _refused(self, key: Key, error: Overloaded) -> Overloaded:
        self._metrics.loads.labels("refused").inc()
        self._journal.refused(*key, str(error))
        return error

    def _load_ended(self, key: Key, pod: Pod, good: bool) -> None:
        if not good:  # nothing is tried in a circle: the next look goes on
            self._on_change({key[0]})
            return
        self.upkeep.keep_spare(pod)
        self.upkeep.complete()


def _was_read_again(before: Model, now: Model) -> bool:
    """Whether something in the model's folder changed: perhaps what made a load fail has been mended."""
    return before.config is not now.config and not _was_sealed_alone(before, now)


def _was_sealed_alone(before: Model, now: Model) -> bool:
    """Whether the folder was read again for its seal, which the first look leaves to the next."""
    unsealed = {number: replace(each, files=None) for number, each in now.versions.items()}
    is_new = any(each.files is None and now.versions[n].files for n, each in before.versions.items() if n in unsealed)
    return is_new and before.config == now.config and before.versions == unsealed
