"""Contracts are fetched once, and requests that wait for one are bounded together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from triptych.client.contract_cache import ContractCache
from triptych.contract import StepFile, load_contract, parse_contract
from triptych.errors import Overloaded, Unavailable
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


WITH_FILE = """\
apiVersion: triptych.dev/v1
kind: Contract
family: churn
max_rows: 4
inputs: [{name: city, datatype: BYTES, shape: [-1]}]
preprocess: [{op: ordinal, input: city, file: cities.txt}]
model:
  inputs: [{name: city, datatype: INT64, shape: [-1]}]
  outputs: [{name: y, datatype: FP32, shape: [-1]}]
outputs: [{name: y, datatype: FP32, shape: [-1]}]
"""


class ControllerWithFiles:
    """Controller with one contract that reads files."""

    def __init__(self, sent: Mapping[str, bytes], published: Mapping[str, bytes]) -> None:
        self._sent, self.calls = sent, list[str]()
        self._digests = {path: StepFile.of(content).digest for path, content in published.items()}

    async def call(self, method: str, request: Any, _call: Call, _limit_s: float = 0.0) -> Any:
        self.calls.append(method)
        if method == "GetStepFile":
            return cp.GetStepFileReply(content=self._sent[request.path])
        contract = parse_contract(WITH_FILE.encode())
        return cp.GetContractReply(contract_json=contract.canonical_json(), step_files=self._digests)


async def test_the_files_that_steps_read_are_fetched_once_with_the_contract() -> None:
    files = {"cities.txt": b"Bonn\nUlm\n"}
    controller: Any = ControllerWithFiles(files, files)
    cache = ContractCache(controller, 10)
    plans = await asyncio.gather(*(cache.get("churn", 1, Call.within(60)) for _ in range(3)))
    words = np.array([b"Ulm"], np.object_)
    assert plans[0].preprocess({"city": words})["city"].tolist() == [1]
    assert len(set(plans)) == 1
    assert controller.calls == ["GetContract", "GetStepFile"]


async def test_a_stage_fetches_the_files_of_its_own_steps_alone() -> None:
    controller: Any = ControllerWithFiles({}, {})
    plan = await ContractCache(controller, 10, stages=("postprocess",)).get("churn", 1, Call.within(60))
    assert plan.postprocess({"y": np.ones(1, np.float32)})["y"].tolist() == [1]
    assert controller.calls == ["GetContract"]


async def test_a_file_that_is_not_what_was_published_is_refused_and_fetched_anew() -> None:
    controller: Any = ControllerWithFiles({"cities.txt": b"Rom\n"}, {"cities.txt": b"Bonn\n"})
    cache = ContractCache(controller, 10)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"cities.txt of churn version 1: want sha256:\w+, the controller sent"):
            await cache.get("churn", 1, Call.within(60))
    assert controller.calls == ["GetContract", "GetStepFile"] * 2
