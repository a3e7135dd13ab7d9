"""A Triton in memory, and placement over some of them with a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from tritonclient.grpc import model_config_pb2 as mc

from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog
from controller.catalog.scanner import Scanner
from controller.journal import Journal
from controller.metrics import ControllerMetrics
from controller.placement.placement import Placement
from controller.placement.planner import Evict
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictor import Predictor
from controller.placement.settings import PlacementSettings
from controller.placement.triton_client import Count, GpuMemory, Index
from triptych.datatypes import Array
from triptych.errors import DeadlineExceeded, LoadFailed, StageUnavailable
from triptych.protocol.call import Call

Answer = Callable[[VersionKey, Mapping[str, Array]], Mapping[str, Array]]

HERE = ("triton:8001",)  # where a `FakeTriton` is, unless told otherwise


class FakeTriton:
    """Loads what it is told to, once `finish` is set; unloads once `forget` is; can be refused, hung and restarted."""

    def __init__(self, address: str = "triton:8001") -> None:
        self.address = address
        self.loaded: set[VersionKey] = set()
        self.unloading: set[VersionKey] = set()
        self.requests: dict[VersionKey, Count] = {}
        self.gpu: GpuMemory | None = None
        self.loads: list[VersionKey] = []
        self.unloads: list[VersionKey] = []
        self.running = 0
        self.most_running = 0
        self.most_held = 0
        self.looks = 0
        self.refuses: dict[VersionKey, str] = {}
        self.hangs: set[str] = set()
        self.away = False
        self.busy = False
        self.busy_looks = 0  # so many looks that fail
        self.finish = asyncio.Event()
        self.finish.set()
        self.forget = asyncio.Event()
        self.forget.set()
        self.started = asyncio.Event()
        self.inferences: list[tuple[VersionKey, int]] = []  # version and rows
        self.answer: Answer = lambda key, tensors: {"y": tensors["x"]}
        self.answering = asyncio.Event()  # clear: requests for inference wait
        self.answering.set()

    async def index(self, *, whole: bool) -> Index:
        self.looks += 1
        self._answer()
        if self.busy_looks:
            self.busy_looks -= 1
            raise DeadlineExceeded(f"predictor at {self.address} did not answer within 2.000 s")
        if self.forget.is_set():
            self.unloading.clear()
        return Index(frozenset(self.loaded), frozenset(), frozenset(self.unloading) if whole else frozenset())

    async def counts(self) -> Mapping[VersionKey, Count]:
        self._answer()
        return {key: self.requests.get(key, Count()) for key in self.loaded}

    async def gpu_memory(self) -> GpuMemory | None:
        return self.gpu

    async def is_ready(self, model: str, version: int) -> bool:
        self._answer()
        return (model, version) in self.loaded

    async def reason(self, model: str, version: int) -> str:
        self._answer()
        return self.refuses.get((model, version), "")

    async def load(self, model: str, config: mc.ModelConfig, versions: Iterable[int], timeout_s: float) -> None:
        self._answer()
        wanted = {(model, version) for version in versions}
        there = {key for key in self.loaded if key[0] == model}
        new = sorted(wanted - there)
        self.loads += new
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.started.set()
        try:
            await (asyncio.Event() if model in self.hangs else self.finish).wait()
        finally:
            self.running -= 1
        self._answer()
        if bad := [key for key in new if key in self.refuses]:
            states = " ".join(f"version {key[1]} is at UNAVAILABLE state: {self.refuses[key]};" for key in bad)
            raise LoadFailed(model, f"load failed for model '{model}': {states}")
        self._go(there - wanted)
        self.loaded |= wanted
        self.most_held = max(self.most_held, len(self.loaded) + len(self.unloading))

    async def unload(self, model: str) -> None:
        self._answer()
        self._go({key for key in self.loaded if key[0] == model})

    async def infer(self, model: str, version: int, tensors: Mapping[str, Array], timeout_s: float) -> dict[str, Array]:
        self._answer()
        self.inferences.append(((model, version), len(next(iter(tensors.values())))))
        try:
            async with asyncio.timeout(timeout_s):
                await self.answering.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"predictor at {self.address} did not answer within {timeout_s:.3f} s") from None
        return dict(self.answer((model, version), tensors))

    async def close(self) -> None: ...

    def serve(self, key: VersionKey, requests: int, queue_s: float = 0.0, total_s: float = 0.0) -> None:
        """So many more requests, and the time that they all spent."""
        old = self.requests.get(key, Count())
        self.requests[key] = Count(
            old.requests + requests, old.queue_ns + int(queue_s * 1e9), old.total_ns + int(total_s * 1e9)
        )

    def restart(self) -> None:
        self.loaded.clear()
        self.unloading.clear()
        self.requests.clear()

    def _go(self, keys: set[VersionKey]) -> None:
        self.loaded -= keys
        self.unloading |= keys
        self.unloads += sorted(keys)

    def _answer(self) -> None:
        if self.away:
            raise StageUnavailable("predictor", self.address, "connection refused")
        if self.busy:
            raise DeadlineExceeded(f"predictor at {self.address} did not answer within 2.000 s")


class PlacementHarness:
    """Placement over fakes that are all known from the start."""

    def __init__(self, catalog: Catalog, *tritons: FakeTriton, **limits: Any) -> None:
        self.now = 0.0
        self.tritons = {triton.address: triton for triton in tritons}
        self.journal = Journal()
        self.metrics = ControllerMetrics(CollectorRegistry())
        settings = PlacementSettings(**{"withdraw_s": 0, "headroom_max_percent": 0, "warm_up": False} | limits)
        self.placement = Placement(
            self.tritons.__getitem__, settings, self.metrics, self.journal, self._changed, lambda: self.now
        )
        self.placement.fleet.set_addresses(self.tritons)
        for predictor in self.placement.fleet:
            predictor.headroom.unload_s.value = 0.0  # so that nobody waits for what a fake does at once
        self.changed: list[set[str]] = []
        self.placement.set_catalog(catalog)

    @property
    def placed(self) -> dict[str, dict[int, tuple[str, ...]]]:
        """What is ready where."""
        names = {name for predictor in self.placement.fleet for name, _ in predictor.ready}
        return {name: self.placement.fleet.ready_addresses(name) for name in sorted(names)}

    async def ensure(self, model: str = "sales_de", version: int = 1, within_s: float = 60.0) -> tuple[str, ...]:
        return await self.placement.ensure_loaded(model, version, Call.within(within_s))

    def call(self, within_s: float = 60.0) -> Call:
        return Call.within(within_s)

    def ask(self, model: str = "sales_de", version: int = 1) -> asyncio.Task[tuple[str, ...]]:
        return asyncio.create_task(self.ensure(model, version))

    async def look(self) -> None:
        """One observation of each predictor, a periodic turn, and time for what follows."""
        await asyncio.gather(*(self.placement.reconciler.observe(predictor) for predictor in self.placement.fleet))
        self.placement.reconciler.reconcile()
        await turn()

    async def settle(self) -> None:
        """Until no load and no unload runs."""
        await turn()
        while any(predictor.unsettled for predictor in self.placement.fleet):
            await asyncio.sleep(0.01)

    def unload(self, model: str, version: int, reason: str) -> asyncio.Task[None]:
        """The running unload on the first predictor."""
        eviction = Evict((model, version), self.predictor().address, reason)
        self.placement.reconciler.execute([eviction])
        return self.placement.state.in_progress.unloads[eviction.key, eviction.address]

    def eviction_reason(self, model: str, version: int, now_s: float) -> str:
        """Why the version would be evicted from the first predictor at a time in the future."""
        state, key, before = self.placement.state, (model, version), self.now
        self.now = now_s
        reason = state.eviction_reason(key, self.predictor(), replicas=state.replicas(key))
        self.now = before
        return reason

    def predictor(self, address: str = "triton:8001") -> Predictor:
        return next(predictor for predictor in self.placement.fleet if predictor.address == address)

    def decisions(self, action: str) -> list[tuple[str, str]]:
        """Model and reason of each decision of that kind."""
        return [(each.model, each.reason) for each in self.journal.latest if each.action == action]

    def _changed(self, models: set[str]) -> None:
        self.changed.append(models)


def read(models: Path, documents: Path | None = None, previous: Catalog | None = None) -> Catalog:
    scan = Scanner(models, documents).scan(settle=False)
    assert scan is not None
    return build_catalog(scan.folders, scan.documents, previous or Catalog(), serve_undeclared=True)


async def turn() -> None:
    """Lets everything that can run without waiting for an event do so."""
    for _ in range(50):
        await asyncio.sleep(0)


def models_of(keys: Collection[VersionKey]) -> list[str]:
    return [name for name, _ in keys]
