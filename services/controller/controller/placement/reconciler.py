"""What is done without being asked: follow every Triton, unload what nobody needs, keep copies and spare room."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from controller.journal import Journal
from controller.metrics import ControllerMetrics
from controller.placement.desired_state import Needs
from controller.placement.discovery import Discovery
from controller.placement.fleet import Fleet
from controller.placement.loader import Moves
from controller.placement.policy.eviction import make_room
from controller.placement.policy.memory import Meter
from controller.placement.policy.popularity import Key
from controller.placement.policy.replica_count import Busy, CopyCount
from controller.placement.predictor import Pod
from controller.placement.repair import Repair
from controller.placement.settings import Limits

log = logging.getLogger(__name__)

EMPTY_HALF = 0.5  # a Triton that holds less than this share of what the others hold takes its models home


class Upkeep:
    """Looks at each Triton on its own, so that one that hangs delays none, and then at all of them together."""

    def __init__(
        self,
        limits: Limits,
        metrics: ControllerMetrics,
        journal: Journal,
        fleet: Fleet,
        needs: Needs,
        moves: Moves,
        repair: Repair,
        clock: Callable[[], float],
    ) -> None:
        self._limits, self._metrics, self._journal, self._clock = limits, metrics, journal, clock
        self._fleet, self._needs, self._moves, self._repair = fleet, needs, moves, repair
        self._copies = CopyCount(limits)
        self._meters: dict[str, Meter] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self.leads = True  # of several controllers one moves models, the others only look

    def lead(self, leads: bool) -> None:
        """Whether this controller is the one that moves models, from now on."""
        self.leads = leads
        self.complete()

    async def run(self, discovery: Discovery, sync_s: float) -> None:
        """Until cancelled."""
        try:
            await every(sync_s, partial(self._step, discovery, sync_s))
        finally:
            for task in self._looks.values():
                task.cancel()
            await asyncio.gather(*self._looks.values(), return_exceptions=True)

    async def find(self, discovery: Discovery) -> None:
        """Takes up Tritons that came, and drops those that went."""
        came, gone = self._fleet.set_addresses(await discovery.addresses())
        for pod in came:
            self._journal.write("predictor", predictor=pod.address, reason="came")
        for pod in gone:
            self._journal.write("predictor", predictor=pod.address, reason="went")
            self._metrics.forget(pod.address)
            self._meters.pop(pod.address, None)
            self._repair.forget(pod.address)
            if task := self._looks.pop(pod.address, None):
                task.cancel()

    async def look(self, pod: Pod) -> None:
        """Reads a Triton's index and counts, and then unloads what is not needed there."""
        await pod.refresh()
        self._metrics.show(pod.address, pod.answers, pod.occupied(self._needs.size_of), self._moves.budget(pod))
        if not pod.answers:
            return
        self._moves.prove_found(pod, self.leads)
        self._needs.loaded(pod.ready)
        requests, now_s = await pod.count(), self._clock()
        for key, count in (requests or {}).items():
            self._needs.usage.record(key, count, now_s)
        if requests is not None:
            self._measure(pod, now_s)
        self._adopt(pod, now_s)
        if self.leads:
            for key in pod.ready:
                if reason := self._needs.why_unload(key, pod, now_s):
                    self._moves.unload(key, pod, reason)
            self._repair.look(pod)
            self.keep_spare(pod)

    def keep_spare(self, pod: Pod) -> None:
        """Unloads the coldest ahead of need: a load need not wait then, for Triton takes a second to unload."""
        spare = pod.spare.room(self._moves.budget(pod), self._limits, self._clock())
        lack = self._moves.shortage(pod, spare)
        if lack.nothing or not self.leads:
            return
        found = make_room(lack, self._needs.occupants(pod, self._clock()))
        if not isinstance(found, float) and len(found) < len(pod.ready):  # an empty Triton helps nobody
            for key in found:
                self._moves.unload(key, pod, "spare room for the next load")

    def complete(self) -> None:
        """Starts loads for copies that must be there and are not, few at once: a caller's load comes first."""
        if not self.leads:
            return
        for key in [*self._needs.required, *self._needs.proving]:
            reason = "stays loaded" if key in self._needs.required else "new version"
            self._add_copies(key, reason, free_only=False)

    def balance(self) -> None:
        """More copies of what is too busy, fewer of what cooled down; and what a lost Triton had, on the others."""
        now_s = self._clock()
        busy: dict[Key, Busy] = {}
        for pod in self._fleet:
            for key, there in pod.busy.items():
                busy[key] = busy.get(key, Busy()) + there
        self._needs.usage.places = sum(len(pod.ready) for pod in self._fleet)
        self._needs.usage.forget_idle(self._limits.idle_ttl_s, now_s)
        self._fleet.forget_old_failures()
        if not self.leads:
            return
        wanted = self._needs.wanted
        for key in {*busy, *self._copies.watched, *(key for key, copies in wanted.items() if copies > 1)}:
            self._count_copies(key, busy.get(key, Busy()), now_s)
        self.complete()
        held = Counter(key for pod in self._fleet for key in pod.ready)
        for key in [key for key, copies in wanted.items() if copies > held[key] and self._needs.in_use(key, now_s)]:
            self._add_copies(key, "in use", free_only=True)
        self._bring_home(now_s)

    async def _step(self, discovery: Discovery, sync_s: float) -> None:
        await self.find(discovery)
        for pod in self._fleet:
            if pod.address not in self._looks:
                self._looks[pod.address] = asyncio.create_task(every(sync_s, partial(self.look, pod)))
        self.balance()

    def _adopt(self, pod: Pod, now_s: float) -> None:
        """What a Triton has that was not loaded by this process is wanted there, until it proves otherwise."""
        for key in [key for key in pod.ready if not (pod.adopted and key in self._needs.wanted)]:
            self._needs.wanted[key] = max(self._needs.wanted[key], len(self._fleet.holders(key)))
            self._needs.usage.record(key, 0, now_s)
        pod.adopted = True

    def _count_copies(self, key: Key, busy: Busy, now_s: float) -> None:
        copies = len(self._fleet.holders(key))
        if not copies:
            self._copies.forget(key)
            return
        change = self._copies.change(key, copies, busy, now_s)
        wanted = min(max(1, copies + change), len(self._fleet.answering()))
        if change and wanted != copies:
            self._needs.wanted[key] = wanted
            words = f"{copies} to {wanted}: {busy.waiting:.1f} requests wait, {busy.in_flight:.1f} in all"
            self._journal.write("copies", *key, reason=words)

    def _add_copies(self, key: Key, reason: str, *, free_only: bool) -> None:
        """Loads until the version is on as many Tritons as it is to be, as far as there is room."""
        there = {pod.address for pod in self._fleet.holders(key)} | self._moves.loading(key).keys()
        missing = self._needs.target(key) - len(there)
        if missing <= 0 or not self._needs.can_load(key) or self._needs.blamed(key, self._clock()):
            return
        for pod in self._fleet.ranked(key[0]):
            if missing and pod.address not in there and self._may_load(key, pod, free_only=free_only):
                self._moves.load(key, pod, reason)
                missing -= 1

    def _may_load(self, key: Key, pod: Pod, *, free_only: bool) -> bool:
        if pod.failure(key) or self._moves.full or self._moves.loads_on(pod) >= self._limits.max_concurrent_loads:
            return False
        free = self._moves.lack(pod, key).nothing
        return free if free_only else free or not self._moves.wait_s(pod, key)

    def _bring_home(self, now_s: float) -> None:
        """A Triton that came, or came back empty, takes the models that belong to it, a few at a time."""
        answering = self._fleet.answering()
        for pod in answering:
            others = [len(each.ready) for each in answering if each is not pod]
            if not others or len(pod.ready) >= EMPTY_HALF * sum(others) / len(others):
                continue
            for other in answering:
                for key in other.ready - pod.ready:
                    home = self._fleet.ranked(key[0])[0] is pod
                    if home and self._needs.in_use(key, now_s) and self._may_load(key, pod, free_only=True):
                        self._moves.load(key, pod, "moves home")  # the other copy is one too many then

    def _measure(self, pod: Pod, now_s: float) -> None:
        """Learns the memory of a version from the GPU's, when nothing else changed there."""
        if pod.gpu is None:
            return
        meter = self._meters.setdefault(pod.address, Meter())
        if measured := meter.see(pod.ready, pod.gpu.used_bytes, now_s, settled=not pod.unsettled):
            self._needs.measured(*measured)


async def every(seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Does the work again and again; an error is logged and does not end it."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("internal error")
        await asyncio.sleep(seconds)
