"""Cache of the contracts that a stage has fetched from the controller. They never change, so no entry is ever stale."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from tritonclient.grpc import service_pb2 as pb

from triptych.client.upstream import Upstream
from triptych.contract import Contract, Plan
from triptych.errors import DeadlineExceeded
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.infer_request import memory_bytes
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.settings import MAX_BYTES_IN_FLIGHT

CONTROLLER_SERVICE = cp.DESCRIPTOR.services_by_name["Controller"]
FETCH_S = 5.0


class ContractCache:
    """Plans by model and version. Concurrent requests share one fetch; the least recently used plan is evicted."""

    def __init__(self, controller: Upstream, limit: int, max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT) -> None:
        self._controller, self._limit = controller, limit
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
            async with asyncio.timeout(call.remaining_s()):
                return await asyncio.shield(fetch)
        except TimeoutError as error:
            raise DeadlineExceeded(f"the contract of {key[0]} version {key[1]} did not come in time") from error

    async def _fetch(self, key: tuple[str, int]) -> Plan:
        request = cp.GetContractRequest(model=key[0], version=key[1])
        reply = await self._controller.call("GetContract", request, Call.within(FETCH_S))
        plan = Plan(Contract.model_validate_json(reply.contract_json))
        self._plans[key] = plan
        if len(self._plans) > self._limit:
            self._plans.popitem(last=False)
        return plan

    def _forget(self, key: tuple[str, int], done: asyncio.Task[Plan]) -> None:
        del self._fetches[key]
        if not done.cancelled():
            done.exception()  # marks it as retrieved: perhaps nobody awaits it
