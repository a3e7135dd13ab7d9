"""Loads and unloads under way: each version once on each Triton, its room reserved from the first moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from tritonclient.grpc import model_config_pb2 as mc

from controller.journal import Journal
from controller.metrics import ControllerMetrics
from controller.placement.machine_memory import is_here, machine_bytes
from controller.placement.policy.eviction import Occupant, Room, make_room
from controller.placement.policy.memory import Size
from controller.placement.policy.popularity import Key
from controller.placement.predictor import Pod
from controller.placement.refusals import MAX_REASON, full, no_shared_memory, outcome_of
from controller.placement.settings import Limits
from controller.placement.triton_client import version_reason
from controller.placement.warm_up import WarmUp
from triptych.client.triton_errors import NO_SHARED_MEMORY, PROCESS_LOST
from triptych.contract import Contract
from triptych.errors import LoadFailed, Overloaded, StageUnavailable, TriptychError, Unavailable
from triptych.runtime.ewma import Ewma

POLL_S = 0.1  # between two looks while something is unloaded
FIRST_LOOK = 0.9  # of the time that unloads take: a look at the whole index is work for Triton
MAX_VICTIMS = 4  # versions that one load may push out of shared memory, of which most take 1 MiB
UNLOAD_S = 30.0  # a request in flight may be that long; afterwards the room still counts as taken

Where = tuple[Key, str]  # version and address
Outcome = TriptychError | None


class Facts(Protocol):
    """What moves have to know about models."""

    def size_of(self, key: Key) -> Size: ...

    def config_of(self, model: str) -> mc.ModelConfig | None:
        """None when the model is not in the catalog."""
        ...

    async def changed(self, model: str, versions: Iterable[int], *, loaded: bool = False) -> str:
        """Why one of these versions must not be loaded: its files are not what was published. '' if all may be.

        `loaded`: Triton has read them meanwhile.
        """
        ...

    def could_not_load(self, key: Key) -> None:
        """Triton refused its files, or the warm-up what it answers."""
        ...

    def contract_of(self, key: Key) -> Contract | None:
        """None when the version is not in the catalog."""
        ...

    def let_go(self, key: Key) -> None:
        """One copy fewer is wanted: it is about to be unloaded."""
        ...

    def blame(self, key: Key) -> None:
        """Its Triton went away while it was loaded."""
        ...

    def failed(self, key: Key, reason: str) -> None:
        """Triton could not load it."""
        ...

    def tritons_here(self) -> int:
        """How many Tritons run on this machine."""
        ...

    def occupants(self, pod: Pod, now_s: float) -> list[Occupant]:
        """What is ready there, and when it may go."""
        ...


class Moves:
    """Starts loads and unloads and sees them through. `ended` is told each load, and whether it went well."""

    def __init__(
        self,
        limits: Limits,
        metrics: ControllerMetrics,
        journal: Journal,
        facts: Facts,
        ended: Callable[[Key, Pod, bool], None],
        clock: Callable[[], float],
    ) -> None:
        self._limits, self._metrics, self._journal, self._facts = limits, metrics, journal, facts
        self._ended, self._clock = ended, clock
        self._warm_up = WarmUp(limits, metrics)
        self._proofs: dict[Where, asyncio.Task[None]] = {}  # warm-ups of what somebody else has loaded
        self._loads: dict[Where, asyncio.Task[Outcome]] = {}
        self._unloads: dict[Where, asyncio.Task[None]] = {}
        self._withdrawn: set[Where] = set()  # unloads that have not begun in Triton
        self._machine_bytes = machine_bytes()
        self._load_s = Ewma(0.2, initial=1.0)  # of a load lately, its wait for a turn left out

    def budget(self, pod: Pod) -> Room:
        """Limits of a Triton; 0 is no limit. Without one in bytes, a share of its GPU memory, or of this machine's."""
        limits = self._limits
        max_bytes = limits.max_bytes
        if not max_bytes and pod.gpu is not None:
            max_bytes = int(pod.gpu.total_bytes * limits.gpu_percent / 100)
        elif not max_bytes and is_here(pod.address):
            max_bytes = int(self._machine_bytes * limits.memory_percent / 100 / max(1, self._facts.tritons_here()))
        return Room(limits.max_models, max_bytes)

    def lack(self, pod: Pod, key: Key) -> Room:
        """What is over the budget if the version were loaded."""
        taken = pod.occupied(self._facts.size_of, key)
        if not pod.takes_room(key):
            taken += Room(1, self._facts.size_of(key).bytes)
        return taken.lacks(self.budget(pod))

    def shortage(self, pod: Pod, spare: Room) -> Room:
        """What is over the budget if so much is to be free, beside what is being freed."""
        over = (pod.occupied(self._facts.size_of) + spare).lacks(self.budget(pod))
        return self._not_being_freed(over, pod)

    def wait_s(self, pod: Pod, key: Key) -> float:
        """Seconds until there may be room for the version; 0 when there is, or can be made."""
        lack = self.lack(pod, key)
        if lack.nothing:
            return 0.0
        found = make_room(lack, self._facts.occupants(pod, self._clock()))
        return found if isinstance(found, float) else 0.0

    def loading(self, key: Key) -> Mapping[str, asyncio.Task[Outcome]]:
        """Loads of the version by address."""
        return {address: task for (each, address), task in self._loads.items() if each == key}

    @property
    def full(self) -> bool:
        """Whether as many loads run or wait as may."""
        return len(self._loads) >= self._limits.max_waiting_loads

    def loads_on(self, pod: Pod) -> int:
        return sum(address == pod.address for _, address in self._loads)

    def queue_s(self, pod: Pod) -> float:
        """How long another load would wait for its turn, by the loads of late."""
        at_once = self._limits.max_concurrent_loads
        return max(0, self.loads_on(pod) - at_once + 1) * self._load_s.value / at_once

    def load(self, key: Key, pod: Pod, reason: str) -> asyncio.Task[Outcome]:
        """The running load of the version there, else a new one. Its result is what went wrong.

        Raises `Overloaded` when too many wait.
        """
        where = (key, pod.address)
        task = self._loads.get(where)
        if task is None:
            if self.full:
                text = f"{len(self._loads)} models, the limit, wait to be loaded; try later"
                raise Overloaded(text, retry_after_s=self._load_s.value)
            pod.arriving[key] = size = self._facts.size_of(key)
            pod.spare.load_begins(size.bytes, self._clock())
            task = self._loads[where] = asyncio.create_task(self._run_load(key, pod, reason))
            self._metrics.loading.set(len(self._loads))
            task.add_done_callback(lambda done: self._load_ended(where, pod, done))
        return task

    def unload(self, key: Key, pod: Pod, reason: str, *, at_once: bool = False) -> asyncio.Task[None]:
        """The running unload of the version there, else a new one; it ends when the index has it no more.

        `at_once`: for a version that cannot run. The stages need not hear of it first, nobody can take it back, and it
        ends when Triton has begun: of a process that is gone the end may never come.
        """
        where = (key, pod.address)
        task = self._unloads.get(where)
        if task is None:
            published = key in pod.ready
            if published:
                self._facts.let_go(key)
            pod.withdraw(key)
            work = self._run_unload(key, pod, reason, told=published and not at_once, at_once=at_once)
            task = self._unloads[where] = asyncio.create_task(work)
            task.add_done_callback(lambda done: self._forget(self._unloads, where, done))
        return task

    def prove_found(self, pod: Pod, leads: bool) -> None:
        """Warms up what somebody else has loaded there. A version that fails is unloaded by who leads."""
        for key in pod.unproven - pod.arriving.keys():
            where = (key, pod.address)
            if where not in self._proofs and not pod.failure(key):
                task = self._proofs[where] = asyncio.create_task(self._prove_found(key, pod, leads))
                task.add_done_callback(lambda done, where=where: self._forget(self._proofs, where, done))  # type: ignore[misc]

    async def keep(self, key: Key) -> None:
        """Takes back the unloads of a version that Triton has not been asked for yet."""
        taken_back = [task for where, task in self._unloads.items() if where[0] == key and where in self._withdrawn]
        for task in taken_back:
            task.cancel()
        await asyncio.gather(*taken_back, return_exceptions=True)

    async def close(self) -> None:
        """Ends what runs here; Triton finishes by itself what it has begun."""
        tasks = [*self._loads.values(), *self._unloads.values(), *self._proofs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_load(self, key: Key, pod: Pod, reason: str) -> Outcome:
        """One load from its turn to its outcome, which is counted, written down and remembered."""
        start, error = time.perf_counter(), None
        try:
            await self._take_room(key, pod)
            start = await self._load_in_turn(key, pod)
        except TriptychError as raised:
            error = raised
        seconds = time.perf_counter() - start
        if isinstance(error, LoadFailed):
            self._remember(key, pod, error)
        elif isinstance(error, StageUnavailable):
            self._facts.blame(key)
        if error is None:
            self._load_s.add(seconds)
            pod.spare.load_took(seconds)
        self._metrics.loads.labels(outcome_of(error)).inc()
        self._metrics.load_seconds.observe(seconds)
        self._journal.write("load", *key, pod.address, reason, seconds, str(error) if error else "ok")
        return error

    async def _load_in_turn(self, key: Key, pod: Pod) -> float:
        """Returns when the load began. Others make room in shared memory, of which nobody knows how much each takes.

        A load whose process ended is tried once more: the kernel may have ended it for want of memory.
        """
        patience_s, lost = self._limits.room_wait_s, False
        for _ in range(1 + MAX_VICTIMS):
            if unloading := self._unloads.get((key, pod.address)):
                await asyncio.wait([unloading])
            try:
                async with pod.slots, pod.locks[key[0]]:
                    start = time.perf_counter()
                    await self._load_there(key, pod)
                    return start
            except LoadFailed as error:
                if PROCESS_LOST.search(error.reason) and not lost:
                    lost = True
                    continue
                if not NO_SHARED_MEMORY.search(error.reason):
                    raise
            found = make_room(Room(1), self._facts.occupants(pod, self._clock()))
            if isinstance(found, float):
                if found > patience_s:
                    raise no_shared_memory(pod, found)
                patience_s -= found
                await asyncio.sleep(max(found, POLL_S))
                continue
            await asyncio.wait([self.unload(victim, pod, f"room in shared memory for {key[0]}") for victim in found])
        raise no_shared_memory(pod, self._load_s.value)

    async def _load_there(self, key: Key, pod: Pod) -> None:
        """Raises `LoadFailed` when the version is not ready afterwards."""
        end = time.perf_counter() + self._limits.load_timeout_s
        while key in pod.loading:  # somebody before us, who was restarted meanwhile
            if time.perf_counter() > end:  # or a load that hangs: the other models want their turn
                raise LoadFailed(key[0], f"Triton has been loading it for {self._limits.load_timeout_s:g} s")
            await asyncio.sleep(POLL_S)
            await pod.refresh(whole=True)
        config = self._facts.config_of(key[0])
        if config is None:
            raise LoadFailed(key[0], "it was removed from the catalog")
        if key in pod.ready:
            return
        if why := await self._facts.changed(key[0], pod.held_versions(key[0]) | {key[1]}):
            raise LoadFailed(key[0], why)
        try:
            await pod.load(key[0], config, key[1], self._limits.load_timeout_s)
        except TriptychError as error:
            await pod.refresh()
            if not isinstance(error, LoadFailed):
                raise
            self._facts.could_not_load(key)
            raise LoadFailed(key[0], version_reason(error.reason, key[1])[:MAX_REASON]) from error
        if why := await self._facts.changed(key[0], {key[1]}, loaded=True):
            self.unload(key, pod, "changed while it was loaded")
            raise LoadFailed(key[0], why)
        if not await pod.confirm(key):
            await pod.refresh()
            while pod.blind and pod.answers:  # Triton said yes, and is too busy to be asked about it
                await asyncio.sleep(POLL_S)
                await pod.refresh()
            if not pod.holds(key):
                if not pod.answers:
                    raise Unavailable(pod.silence)
                self._facts.could_not_load(key)
                raise LoadFailed(key[0], await pod.reason(key))
        await self._prove(key, pod, leads=True)

    async def _prove(self, key: Key, pod: Pod, *, leads: bool) -> None:
        """Raises what `WarmUp.check` raises; a version that fails is unloaded and never gets a request."""
        contract, config = self._facts.contract_of(key), self._facts.config_of(key[0])
        if key in pod.unproven and contract is not None and config is not None:
            try:
                await self._warm_up.check(key, pod, contract, config)
            except LoadFailed as error:
                self._facts.could_not_load(key)
                if leads:  # of a process that is gone the end of an unload may never come
                    self.unload(key, pod, "warm-up failed", at_once=bool(PROCESS_LOST.search(error.reason)))
                raise
        pod.prove(key)

    async def _prove_found(self, key: Key, pod: Pod, leads: bool) -> None:
        try:
            await self._prove(key, pod, leads=leads)
        except LoadFailed as error:
            self._remember(key, pod, error)
            self._ended(key, pod, False)
        except TriptychError:  # not the model's fault: the next look tries again
            return

    def _remember(self, key: Key, pod: Pod, error: LoadFailed) -> None:
        pod.remember_failure(key, error.reason, self._limits.failure_ttl_s)
        self._facts.failed(key, error.reason)

    async def _take_room(self, key: Key, pod: Pod) -> None:
        """Returns when there is room for what is arriving. Raises `Overloaded`."""
        patience_s = self._limits.room_wait_s
        while not (lack := self.lack(pod, key)).nothing:
            found = make_room(self._not_being_freed(lack, pod), self._facts.occupants(pod, self._clock()))
            if isinstance(found, float):
                if found > patience_s:
                    raise full(pod, found)
                patience_s -= found
                await asyncio.sleep(max(found, POLL_S))
                continue
            for victim in found:
                self.unload(victim, pod, f"room for {key[0]} version {key[1]}")
            leaving = [task for (_, address), task in self._unloads.items() if address == pod.address]
            if leaving:
                await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
            else:  # Triton unloads what somebody else asked it to
                await asyncio.sleep(POLL_S)
                await pod.refresh()

    def _not_being_freed(self, lack: Room, pod: Pod) -> Room:
        """What lacks beside the room that unloads under way will free."""
        keys = [key for key, address in self._unloads if address == pod.address]
        freed = sum(self._facts.size_of(key).bytes for key in keys)
        return Room(max(0, lack.models - len(keys)), max(0, lack.bytes - freed))

    async def _run_unload(self, key: Key, pod: Pod, reason: str, *, told: bool, at_once: bool) -> None:
        """One unload to its end. `told`: the stages are told of it first, for they know of the version."""
        start, outcome = time.perf_counter(), "ok"
        try:
            if told:
                await self._withdraw(key, pod)
            async with pod.locks[key[0]]:
                if why := await self._facts.changed(key[0], pod.held_versions(key[0])):
                    raise LoadFailed(key[0], f"the unload would load other versions anew: {why}")
                await pod.unload(key[0], self._facts.config_of(key[0]), self._limits.load_timeout_s)
            remains = pod.says_ready if at_once else pod.in_memory
            if not at_once:
                await asyncio.sleep(FIRST_LOOK * pod.spare.unload_s.value - (time.perf_counter() - start))
            await pod.refresh(whole=True)
            while remains(key) and time.perf_counter() - start < UNLOAD_S:
                await asyncio.sleep(POLL_S)
                await pod.refresh(whole=True)
            outcome = f"not gone after {UNLOAD_S:.0f} s" if remains(key) else "ok"
            if not at_once:
                pod.spare.unload_took(time.perf_counter() - start)
        except TriptychError as error:
            outcome = str(error)
        finally:
            pod.left(key)
        self._metrics.unloads.labels(reason.partition(" ")[0]).inc()
        self._journal.write("unload", *key, pod.address, reason, time.perf_counter() - start, outcome)

    async def _withdraw(self, key: Key, pod: Pod) -> None:
        """Waits until the stages have heard that the version goes. Meanwhile it may still be kept."""
        self._withdrawn.add((key, pod.address))
        try:
            await asyncio.sleep(self._limits.withdraw_s)
        finally:
            self._withdrawn.discard((key, pod.address))

    def _load_ended(self, where: Where, pod: Pod, task: asyncio.Task[Outcome]) -> None:
        del self._loads[where]
        pod.arriving.pop(where[0], None)
        self._metrics.loading.set(len(self._loads))
        if task.cancelled():
            return
        if error := task.exception():
            self._journal.fault(error, where[0][0])
        else:
            self._ended(where[0], pod, task.result() is None)

    def _forget(self, tasks: dict[Where, asyncio.Task[None]], where: Where, task: asyncio.Task[None]) -> None:
        del tasks[where]
        if not task.cancelled() and (error := task.exception()):
            self._journal.fault(error, where[0][0])
