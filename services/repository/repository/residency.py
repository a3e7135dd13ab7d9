"""What is loaded where. One load however many wait for it; what is ready is only what Triton's index says.

State lives in Triton: everything here is read back from the index after a restart of either side.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from repository.board import Placement
from repository.catalogue import Catalogue, Model
from repository.metrics import RepositoryMetrics
from repository.pod import Pod
from repository.triton import Predictor, failed_versions, only
from triptych.call import Call
from triptych.errors import DeadlineExceeded, LoadFailed, Overloaded, TriptychError, Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How long and how many; the settings of the same names say more."""

    load_timeout_s: float = 60.0
    failure_ttl_s: float = 30.0
    max_concurrent_loads: int = 2
    max_waiting_loads: int = 256


class Residency:
    """Loads what is asked for and what is to stay loaded; tells `on_change` where everything is."""

    def __init__(
        self,
        predictors: Sequence[Predictor],
        limits: Limits,
        metrics: RepositoryMetrics,
        on_change: Callable[[Placement], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._metrics, self._on_change = limits, metrics, on_change
        pods = (Pod(each, limits.max_concurrent_loads, self._pod_changed, clock) for each in predictors)
        self._pods = {pod.address: pod for pod in pods}
        self._catalogue = Catalogue()
        self._loads: dict[tuple[str, str], asyncio.Task[TriptychError | None]] = {}  # by model and address

    def set_catalogue(self, catalogue: Catalogue) -> None:
        """What may be loaded, and what stays loaded, from now on."""
        for name, model in catalogue.models.items():
            before = self._catalogue.models.get(name)
            if before and _was_read_again(before, model):
                for pod in self._pods.values():
                    pod.forget_failures(name)
        self._catalogue = catalogue
        self._load_what_stays()

    async def run(self, sync_s: float) -> None:
        """Keeps up with every Triton, until cancelled; one that hangs does not delay the others."""
        async with asyncio.TaskGroup() as group:
            for pod in self._pods.values():
                group.create_task(every(sync_s, partial(self._sync, pod)))

    async def sync(self) -> None:
        """Reads every Triton's index once; what should be loaded there and is not gets loaded."""
        await asyncio.gather(*(self._sync(pod) for pod in self._pods.values()))

    async def ensure_loaded(self, model: str, version: int, call: Call) -> tuple[str, ...]:
        """Addresses that have the version ready, after loading it where needed.

        The caller's deadline ends its wait, never the load. Raises `LoadFailed`, `Unavailable`,
        `Overloaded`, `DeadlineExceeded`.
        """
        try:
            async with asyncio.timeout(call.remaining_s()):
                return await self._ensure(model, version)
        except TimeoutError:
            raise DeadlineExceeded(f"model '{model}' was not loaded before the call's deadline") from None

    def holders(self, model: str, version: int) -> tuple[str, ...]:
        """Addresses that have the version ready."""
        return tuple(pod.address for pod in self._pods.values() if (model, version) in pod.ready)

    def is_loading(self, model: str) -> bool:
        return any(name == model for name, _ in self._loads)

    def failure(self, model: str, version: int) -> str:
        """Why the version could not be loaded lately; empty if it could, or nobody tried."""
        return next((text for pod in self._pods.values() if (text := pod.failure(model, version))), "")

    async def close(self) -> None:
        """Ends the loads that run (Triton finishes them by itself) and closes the channels."""
        tasks = list(self._loads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pod in self._pods.values():
            await pod.close()

    async def _ensure(self, model: str, version: int) -> tuple[str, ...]:
        if holders := self.holders(model, version):
            # Whoever asks for what is loaded did not find it there: Triton may have restarted meanwhile.
            await asyncio.gather(*(self._pods[address].refresh() for address in holders))
        error = None
        for _ in range(2):  # a load that we only joined may have begun before this version was published
            if holders := self.holders(model, version):
                return holders
            pod = await self._pod_for(model)
            if reason := pod.failure(model, version):
                raise LoadFailed(model, reason)
            joined = (model, pod.address) in self._loads
            error = await asyncio.shield(self._load(model, pod))
            if not joined:
                break
        if holders := self.holders(model, version):
            return holders
        if error is not None:
            raise error.with_traceback(None)
        raise LoadFailed(model, self.failure(model, version) or f"Triton left version {version} out")

    async def _sync(self, pod: Pod) -> None:
        await pod.refresh()
        self._load_what_stays()

    async def _pod_for(self, model: str) -> Pod:
        """The Triton that a model belongs on, among those that answer."""
        if not any(pod.answers for pod in self._pods.values()):
            await asyncio.gather(*(pod.refresh() for pod in self._pods.values()))
        ranked = self._ranked(model)
        if not ranked:
            pod = next(iter(self._pods.values()))
            raise Unavailable(pod.silence)
        return ranked[0]

    def _ranked(self, model: str) -> list[Pod]:
        """The Tritons that answer, in the order of their claim on the model."""
        answering = [pod.address for pod in self._pods.values() if pod.answers]
        return [self._pods[address] for address in rendezvous(model, answering)]

    def _load(self, model: str, pod: Pod) -> asyncio.Task[TriptychError | None]:
        """The running load of the model there, else a new one. Its result is what went wrong."""
        key = (model, pod.address)
        task = self._loads.get(key)
        if task is None:
            if len(self._loads) >= self._limits.max_waiting_loads:
                raise Overloaded(f"{len(self._loads)} models, the limit, wait to be loaded; try later")
            task = self._loads[key] = asyncio.create_task(self._run_load(model, pod))
            self._metrics.loading.set(len(self._loads))
            task.add_done_callback(lambda done: self._load_ended(key, done))
        return task

    async def _run_load(self, model: str, pod: Pod) -> TriptychError | None:
        """One load from its turn to its outcome, which is counted, logged and remembered."""
        async with pod.slots:
            known = self._catalogue.models.get(model)
            start = time.perf_counter()
            outcome = "ok"
            error: TriptychError | None = None
            try:
                await self._load_what_can_be(model, known, pod)
            except TriptychError as raised:
                outcome = "failed" if isinstance(raised, LoadFailed) else "unavailable"
                error = raised
            seconds = time.perf_counter() - start
        self._metrics.loads.labels(outcome).inc()
        self._metrics.load_seconds.observe(seconds)
        facts = {"model": model, "predictor": pod.address, "seconds": round(seconds, 3)}
        if error is None:
            log.info("loaded", extra=facts)
        else:
            log.warning("not loaded", extra=facts | {"reason": str(error)})
        await pod.refresh()
        if known and outcome != "unavailable":
            await self._remember_failures(known, pod, error)
        return error

    async def _load_what_can_be(self, model: str, known: Model | None, pod: Pod) -> None:
        """A load of the whole model; when Triton refuses it for some versions, one of the others."""
        try:
            await pod.load(model, self._limits.load_timeout_s)
        except LoadFailed as error:
            bad = failed_versions(error.reason)
            good = set(known.versions) - set(bad) if known else set()
            if not bad or not good or known is None:
                raise
            for version, reason in bad.items():
                facts = {"model": model, "version": version, "predictor": pod.address, "reason": reason}
                log.warning("version left out", extra=facts)
                pod.remember_failure(model, version, reason, self._limits.failure_ttl_s)
            await pod.refresh()
            if any((model, version) not in pod.ready for version in good):
                await pod.load(model, self._limits.load_timeout_s, only(known.config, good))

    async def _remember_failures(self, model: Model, pod: Pod, error: TriptychError | None) -> None:
        """What a load should have made ready and did not is not tried again for a while."""
        for version in model.versions:
            if (model.name, version) not in pod.ready and not pod.failure(model.name, version):
                reason = error.reason if isinstance(error, LoadFailed) else await pod.reason(model.name, version)
                pod.remember_failure(model.name, version, reason, self._limits.failure_ttl_s)

    def _load_ended(self, key: tuple[str, str], task: asyncio.Task[TriptychError | None]) -> None:
        del self._loads[key]
        self._metrics.loading.set(len(self._loads))
        if task.cancelled():
            return
        if error := task.exception():
            log.error("internal error", exc_info=error, extra={"model": key[0]})
        elif task.result() is None:  # after a failure the next sync goes on: nothing is tried in a circle
            self._load_what_stays()

    def _load_what_stays(self) -> None:
        """Starts loads for pins and minCopies, few at once: a caller's load never waits for all."""
        for model in self._catalogue.models.values():
            if not model.residency.copies:
                continue
            for pod in self._ranked(model.name)[: model.residency.copies]:
                busy = sum(address == pod.address for _, address in self._loads)
                loading = (model.name, pod.address) in self._loads
                if busy < self._limits.max_concurrent_loads and not loading and _lacks(pod, model):
                    self._load(model.name, pod)

    def _pod_changed(self, pod: Pod) -> None:
        """Publishes where everything is."""
        self._metrics.resident.labels(pod.address).set(len({name for name, _ in pod.ready}))
        placement: dict[str, dict[int, tuple[str, ...]]] = {}
        for each in self._pods.values():
            for name, version in each.ready:
                versions = placement.setdefault(name, {})
                versions[version] = (*versions.get(version, ()), each.address)
        self._on_change(placement)


async def every(seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Does the work again and again; an error is logged and does not end it."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("internal error")
        await asyncio.sleep(seconds)


def rendezvous(model: str, addresses: Sequence[str]) -> list[str]:
    """Addresses by their weight for the model: when one comes or goes, only its own models move."""
    return sorted(addresses, key=lambda address: hashlib.blake2b(f"{address} {model}".encode()).digest())


def _was_read_again(before: Model, now: Model) -> bool:
    """Whether something in the model's folder changed: perhaps what made a load fail has been mended."""
    versions = before.versions.keys() | now.versions.keys()
    return any(before.versions.get(version) is not now.versions.get(version) for version in versions)


def _lacks(pod: Pod, model: Model) -> bool:
    """Whether a version in traffic is not ready there, and not known to fail."""
    missing = [v for v in model.in_traffic if (model.name, v) not in pod.ready]
    return any(not pod.failure(model.name, version) for version in missing)
