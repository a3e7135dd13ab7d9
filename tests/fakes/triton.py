"""A Triton in memory. A test decides when loads and unloads end, and what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from tritonclient.grpc import model_config_pb2 as mc

from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.gpu_memory import GpuMemory
from controller.placement.predictors.triton_client import Count, Index
from triptych.datatypes import Array
from triptych.errors import DeadlineExceeded, LoadFailed, StageUnavailable

Answer = Callable[[VersionKey, Mapping[str, Array]], Mapping[str, Array]]

HERE = ("triton:8001",)  # where a `FakeTriton` is, unless a test sets another


class FakeTriton:
    """A Triton in memory. Loads end once `finish` is set, unloads once `forget` is; faults can be set by attribute."""

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
        """Count more requests, with the time that all of them spent."""
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
