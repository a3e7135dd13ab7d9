"""Cache of the contracts that a stage has fetched from the controller. They never change, so no entry is ever stale."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from triptych.client.upstream import Upstream
from triptych.contract import Contract, Plan
from triptych.errors import DeadlineExceeded
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call

CONTROLLER_SERVICE = cp.DESCRIPTOR.services_by_name["Controller"]
FETCH_S = 5.0


class ContractCache:
    """Plans by model and version. Concurrent requests share one fetch; the least recently used plan is evicted."""

    def __init__(self, controller: Upstream, limit: int) -> None:
        self._controller, self._limit = controller, limit
        self._plans: OrderedDict[tuple[str, int], Plan] = OrderedDict()
        self._fetches: dict[tuple[str, int], asyncio.Task[Plan]] = {}

    async def get(self, model: str, version: int, call: Call) -> Plan:
        """Plan of a version. Raises the errors of the controller: not found, or unavailable."""
        key = (model, version)
        plan = self._plans.get(key)
        if plan is not None:
            self._plans.move_to_end(key)
            return plan
        fetch = self._fetches.get(key)
        if fetch is None:
            fetch = self._fetches[key] = asyncio.create_task(self._fetch(key))
            fetch.add_done_callback(lambda done: self._forget(key, done))
        try:
            async with asyncio.timeout(call.remaining_s()):
                return await asyncio.shield(fetch)
        except TimeoutError as error:
            raise DeadlineExceeded(f"the contract of {model} version {version} did not come in time") from error

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
