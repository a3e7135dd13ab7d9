"""Cache of the contracts that a stage has fetched from the controller. They never change, so no entry is ever stale."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from weakref import WeakValueDictionary

from tritonclient.grpc import service_pb2 as pb

from triptych.client.plan_memory import Parts, PlanMemory, parts_of
from triptych.client.upstream import Upstream
from triptych.contract import Contract, Plan, StepFile
from triptych.contract.schema.declarations import STAGES
from triptych.errors import ContractViolation, DeadlineExceeded, LoadFailed, Overloaded, Unavailable
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.infer_request import memory_bytes
from triptych.runtime.first_step import time_limit
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.machine_memory import machine_bytes
from triptych.runtime.settings import MAX_BYTES_IN_FLIGHT, StageSettings

CONTROLLER_SERVICE = cp.DESCRIPTOR.services_by_name["Controller"]
FETCH_S = 5.0
RETRY_S = 1.0
REFUSAL_S = 60.0
MEMORY_SHARE = 0.25  # of the memory of the pod or machine, for plans


@dataclass(frozen=True)
class CacheLimits:
    """Most plans, and most bytes of memory that they take together. `bytes_setting` is the name of that setting."""

    plans: int
    size_bytes: int = 0  # 0: no limit
    bytes_setting: str = "CONTRACT_CACHE_BYTES"

    @classmethod
    def of(cls, settings: StageSettings, plans: int, size_bytes: int) -> CacheLimits:
        """The limits of a stage. For 0 bytes they are a quarter of the memory of the pod or machine."""
        return cls(plans, size_bytes or int(MEMORY_SHARE * machine_bytes()), f"{settings.prefix()}CONTRACT_CACHE_BYTES")


@dataclass(frozen=True)
class _Refused:
    """Why a version is not read again until then: the system may have ended its reader for want of memory."""

    text: str
    until_s: float


class ContractCache:
    """Plans by model and version. Concurrent requests share one fetch; the least recently used plan is evicted.

    A plan has the steps of `stages`, with the files that they read. A plan that is evicted counts until no request
    uses it. Plans with files are made one after the other, since that takes memory of its own.
    """

    def __init__(
        self,
        controller: Upstream,
        limits: CacheLimits,
        max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT,
        stages: Collection[str] = STAGES,
    ) -> None:
        self._controller, self._limits, self._stages = controller, limits, stages
        self._waiting_bytes = InFlightBytes(max_bytes_in_flight)
        self._plans: OrderedDict[tuple[str, int], Plan] = OrderedDict()
        self._memory = PlanMemory()
        self._refused: OrderedDict[tuple[str, int], _Refused] = OrderedDict()
        self._files = WeakValueDictionary[str, StepFile]()  # those of plans, by digest
        self._reading = asyncio.Lock()
        self._fetches: dict[tuple[str, int], asyncio.Task[Plan]] = {}

    async def get(self, model: str, version: int, call: Call, waiting: pb.ModelInferRequest | None = None) -> Plan:
        """Plan of a version, for a request that waits for it. Raises the errors of the controller, and `Overloaded`."""
        key = (model, version)
        plan = self._plans.get(key)
        if plan is not None:
            self._plans.move_to_end(key)
            return plan
        if (refused := self._refused.get(key)) and refused.until_s > time.monotonic():
            raise LoadFailed(model, refused.text)
        size_bytes = 0 if waiting is None else memory_bytes(waiting)
        self._waiting_bytes.acquire(size_bytes)
        try:
            return await self._fetched(key, call)
        finally:
            self._waiting_bytes.release(size_bytes)

    async def _fetched(self, key: tuple[str, int], call: Call) -> Plan:
        fetch = self._fetches.get(key)
        if fetch is None:
            fetch = self._fetches[key] = asyncio.create_task(self._fetch(key))
            fetch.add_done_callback(lambda done: self._forget(key, done))
        try:
            async with time_limit(call.remaining_s()):
                return await asyncio.shield(fetch)
        except TimeoutError as error:
            raise DeadlineExceeded(f"the contract of {key[0]} version {key[1]} did not come in time") from error

    async def _fetch(self, key: tuple[str, int]) -> Plan:
        request = cp.GetContractRequest(model=key[0], version=key[1])
        reply = await self._controller.call("GetContract", request, Call.within(FETCH_S))
        contract, json_bytes = Contract.model_validate_json(reply.contract_json), len(reply.contract_json)
        paths = contract.step_files(self._stages)
        if not paths:
            parts = parts_of(_name(key), contract, json_bytes, {}, self._stages, 0)
            self._free_memory(key, parts)
            return self._keep(key, Plan(contract, stages=self._stages), parts)
        async with self._reading:
            files = {path: await self._file(key, path, reply.step_files[path]) for path in paths}
            parts = await asyncio.to_thread(self._parts, key, contract, json_bytes, files)
            self._free_memory(key, parts)
            # A tokenizer of 17 MB takes a second to read.
            return self._keep(key, await asyncio.to_thread(Plan, contract, files, self._stages), parts)

    def _parts(self, key: tuple[str, int], contract: Contract, json_bytes: int, files: Mapping[str, StepFile]) -> Parts:
        most = self._limits.size_bytes or machine_bytes() or 1 << 40
        try:
            return parts_of(_name(key), contract, json_bytes, files, self._stages, most)
        except ContractViolation as error:
            raise self._refusal(key, f"{error}") from None

    def _free_memory(self, key: tuple[str, int], parts: Parts) -> None:
        """Evict plans until one of these parts fits. Raises `LoadFailed`, or `Overloaded` while requests use others."""
        most = self._limits.size_bytes
        if not most:
            return
        if (needed := sum(parts.values())) > most:
            raise self._refusal(key, f"its plan takes {needed} bytes of memory")
        while (held := self._memory.bytes_with(parts)) > most and self._plans:
            self._evict()
        if held > most:
            text = f"plans that requests use take the memory of another: {held} bytes, want at most {most}"
            raise Overloaded(f"{text} ({self._limits.bytes_setting})", RETRY_S)

    def _refusal(self, key: tuple[str, int], text: str) -> LoadFailed:
        """The error of a version that is too large for this stage. It is remembered: reading takes seconds of CPU."""
        most = f"want at most {self._limits.size_bytes} ({self._limits.bytes_setting})"
        refused = _Refused(f"version {key[1]}: {text}, {most}", time.monotonic() + REFUSAL_S)
        self._refused[key] = refused
        self._refused.move_to_end(key)
        if len(self._refused) > self._limits.plans:
            self._refused.popitem(last=False)
        return LoadFailed(key[0], refused.text)

    def _keep(self, key: tuple[str, int], plan: Plan, parts: Parts) -> Plan:
        self._plans[key] = plan
        self._memory.add(plan, parts)
        if len(self._plans) > self._limits.plans:
            self._evict()
        return plan

    def _evict(self) -> None:
        _, plan = self._plans.popitem(last=False)
        self._memory.remove(plan)

    async def _file(self, key: tuple[str, int], path: str, digest: str) -> StepFile:
        """A file of a version, which may be that of another plan, too."""
        file = self._files.get(digest)
        if file is None:
            file = self._files[digest] = await self._fetch_file(key, path, digest)
        return file

    async def _fetch_file(self, key: tuple[str, int], path: str, digest: str) -> StepFile:
        request = cp.GetStepFileRequest(model=key[0], version=key[1], path=path)
        reply = await self._controller.call("GetStepFile", request, Call.within(FETCH_S))
        file = StepFile.of(reply.content)
        if file.digest != digest:
            raise Unavailable(f"{path} of {key[0]} version {key[1]}: want {digest}, the controller sent {file.digest}")
        return file

    def _forget(self, key: tuple[str, int], done: asyncio.Task[Plan]) -> None:
        del self._fetches[key]
        if not done.cancelled():
            done.exception()  # marks it as retrieved: perhaps nobody awaits it


def _name(key: tuple[str, int]) -> str:
    return f"{key[0]}/{key[1]}"
