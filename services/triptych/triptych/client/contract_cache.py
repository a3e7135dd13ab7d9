"""Cache of the contracts that a stage has fetched from the controller. They never change, so no entry is ever stale."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection

from tritonclient.grpc import service_pb2 as pb

from triptych.client.upstream import Upstream
from triptych.contract import Contract, Plan, StepFile
from triptych.contract.schema.declarations import STAGES
from triptych.errors import DeadlineExceeded, Unavailable
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.infer_request import memory_bytes
from triptych.runtime.first_step import time_limit
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.settings import MAX_BYTES_IN_FLIGHT

CONTROLLER_SERVICE = cp.DESCRIPTOR.services_by_name["Controller"]
FETCH_S = 5.0


class ContractCache:
    """Plans by model and version. Concurrent requests share one fetch; the least recently used plan is evicted.

    A plan has the steps of `stages`, with the files that they read.
    """

    def __init__(
        self,
        controller: Upstream,
        limit: int,
        max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT,
        stages: Collection[str] = STAGES,
    ) -> None:
        self._controller, self._limit, self._stages = controller, limit, stages
        self._waiting_bytes = InFlightBytes(max_bytes_in_flight)
        self._plans: OrderedDict[tuple[str, int], Plan] = OrderedDict()
        self._fetches: dict[tuple[str, int], asyncio.Task[Plan]] = {}

    async def get(self, model: str, version: int, call: Call, waiting: pb.ModelInferRequest | None = None) -> Plan:
        """Plan of a version, for a request that waits for it. Raises the errors of the controller, and `Overloaded`."""
        key = (model, version)
        plan = self._plans.get(key)
        if plan is not None:
            self._plans.move_to_end(key)
            return plan
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
        contract = Contract.model_validate_json(reply.contract_json)
        paths = contract.step_files(self._stages)
        if paths:
            files = {path: await self._fetch_file(key, path, reply.step_files[path]) for path in paths}
            # A tokenizer of 17 MB takes a second to read.
            plan = await asyncio.to_thread(Plan, contract, files, self._stages)
        else:
            plan = Plan(contract, stages=self._stages)
        self._plans[key] = plan
        if len(self._plans) > self._limit:
            self._plans.popitem(last=False)
        return plan

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
