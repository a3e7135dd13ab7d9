"""Contracts are fetched once, and requests that wait for one are bounded together."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from triptych.client.contract_cache import ContractCache
from triptych.contract import load_contract
from triptych.errors import Overloaded
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call

CONTRACT = load_contract(Path("model-repository/digits_de/1/contract.yaml")).canonical_json()


class SlowController:
    """Controller that answers once it is released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.calls = 0

    async def call(self, _method: str, _request: Any, _call: Call, _limit_s: float = 0.0) -> cp.GetContractReply:
        self.calls += 1
        await self.released.wait()
        return cp.GetContractReply(contract_json=CONTRACT)


async def test_requests_that_wait_for_a_contract_are_bounded_by_their_memory() -> None:
    """Typed numbers of one byte take 16 in memory."""
    controller: Any = SlowController()
    cache = ContractCache(controller, 10, max_bytes_in_flight=120_000)
    contents = pb.InferTensorContents(int64_contents=[1] * 3_000)  # 48,000 bytes in memory, 3,000 on the wire
    request = pb.ModelInferRequest(inputs=[pb.ModelInferRequest.InferInputTensor(contents=contents)])
    waiting = [asyncio.create_task(cache.get("digits_de", 1, Call.within(60), request)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="bytes are in flight here"):
        await waiting[2]
    controller.released.set()
    assert len(set(await asyncio.gather(*waiting[:2]))) == 1
    assert controller.calls == 1
    assert await cache.get("digits_de", 1, Call.within(60), request) is waiting[0].result()
