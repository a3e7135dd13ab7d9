"""Contracts are fetched once, and requests that wait for one are bounded together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from preprocess.settings import Settings
from tests.small_tokenizers import EMBEDDING, bert
from triptych.client.contract_cache import CacheLimits, ContractCache
from triptych.contract import StepFile, load_contract, parse_contract
from triptych.errors import LoadFailed, Overloaded, Unavailable
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.runtime.machine_memory import machine_bytes

MIB = 1 << 20
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
    cache = ContractCache(controller, CacheLimits(10), max_bytes_in_flight=120_000)
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
    cache = ContractCache(controller, CacheLimits(10))
    plans = await asyncio.gather(*(cache.get("churn", 1, Call.within(60)) for _ in range(3)))
    words = np.array([b"Ulm"], np.object_)
    assert plans[0].preprocess({"city": words})["city"].tolist() == [1]
    assert len(set(plans)) == 1
    assert controller.calls == ["GetContract", "GetStepFile"]


async def test_a_stage_fetches_the_files_of_its_own_steps_alone() -> None:
    controller: Any = ControllerWithFiles({}, {})
    plan = await ContractCache(controller, CacheLimits(10), stages=("postprocess",)).get("churn", 1, Call.within(60))
    assert plan.postprocess({"y": np.ones(1, np.float32)})["y"].tolist() == [1]
    assert controller.calls == ["GetContract"]


async def test_a_file_that_is_not_what_was_published_is_refused_and_fetched_anew() -> None:
    controller: Any = ControllerWithFiles({"cities.txt": b"Rom\n"}, {"cities.txt": b"Bonn\n"})
    cache = ContractCache(controller, CacheLimits(10))
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"cities.txt of churn version 1: want sha256:\w+, the controller sent"):
            await cache.get("churn", 1, Call.within(60))
    assert controller.calls == ["GetContract", "GetStepFile"] * 2


TEXTS = np.array([b"the quick brown fox"], np.object_)


def tokenizer_of(words: int, first: int = 0) -> bytes:
    """A tokenizer with so many words beyond the usual ones; 10,000 take about 4 MiB, 100,000 about 40."""
    document = json.loads(bert().to_str())
    document["model"]["vocab"] |= {f"word{first + number}": 1_000 + number for number in range(words)}
    return json.dumps(document).encode()


class ControllerWithTokenizers:
    """Controller whose models have the tokenizers of these names, and counts the files that it sends."""

    def __init__(self, tokenizers: Mapping[str, bytes]) -> None:
        self._files = {name: StepFile.of(content) for name, content in tokenizers.items()}
        self.sent = list[str]()

    async def call(self, method: str, request: Any, _call: Call, _limit_s: float = 0.0) -> Any:
        file = self._files[request.model]
        if method == "GetStepFile":
            self.sent.append(request.model)
            return cp.GetStepFileReply(content=file.content)
        contract = parse_contract(EMBEDDING.encode())
        return cp.GetContractReply(contract_json=contract.canonical_json(), step_files={"tokenizer.json": file.digest})


def cache_of(controller: Any, size_bytes: int) -> ContractCache:
    return ContractCache(controller, CacheLimits(10, size_bytes, "PREPROCESS_CONTRACT_CACHE_BYTES"))


async def test_the_least_recently_used_tokenizers_leave_when_their_memory_is_full() -> None:
    controller: Any = ControllerWithTokenizers({f"model{each}": tokenizer_of(10_000, each) for each in range(3)})
    cache = cache_of(controller, 28 * MIB)  # two of about 11 MiB, with the words that each may remember
    for name in ("model0", "model1", "model0", "model2", "model0"):
        plan = await cache.get(name, 1, Call.within(60))
        assert plan.preprocess({"text": TEXTS})["input_ids"].shape[0] == 1
        del plan
    assert controller.sent == ["model0", "model1", "model2"]
    await cache.get("model1", 1, Call.within(60))
    assert controller.sent == ["model0", "model1", "model2", "model1"]


async def test_a_tokenizer_that_is_larger_than_the_memory_is_refused_once_and_the_others_go_on() -> None:
    controller: Any = ControllerWithTokenizers({"large": tokenizer_of(100_000), "small": tokenizer_of(0)})
    cache = cache_of(controller, 20 * MIB)
    await cache.get("small", 1, Call.within(60))
    for _ in range(3):
        with pytest.raises(LoadFailed, match=r"^model 'large' could not be loaded: version 1: .*CONTRACT_CACHE_BYTES"):
            await cache.get("large", 1, Call.within(60))
        await cache.get("small", 1, Call.within(60))
    assert controller.sent == ["small", "large"]


async def test_a_plan_in_use_keeps_working_and_counts_until_its_requests_end() -> None:
    controller: Any = ControllerWithTokenizers({f"model{each}": tokenizer_of(10_000, each) for each in range(2)})
    cache = cache_of(controller, 20 * MIB)
    used = await cache.get("model0", 1, Call.within(60))
    with pytest.raises(Overloaded, match="plans that requests use take the memory of another") as refused:
        await cache.get("model1", 1, Call.within(60))
    assert refused.value.retry_after_s > 0
    assert used.preprocess({"text": TEXTS})["input_ids"].shape[0] == 1
    del used, refused
    await cache.get("model1", 1, Call.within(60))


async def test_versions_with_one_tokenizer_count_it_once() -> None:
    content = tokenizer_of(10_000)
    controller: Any = ControllerWithTokenizers({f"model{each}": content for each in range(4)})
    cache = cache_of(controller, 20 * MIB)
    for _ in range(2):
        for each in range(4):
            await cache.get(f"model{each}", 1, Call.within(60))
    assert controller.sent == ["model0"]


async def test_contracts_count_by_their_size() -> None:
    controller: Any = SlowController()
    controller.released.set()
    cache = cache_of(controller, 40 * len(CONTRACT))  # two, at 16 times their bytes
    for version in (1, 2, 1, 3, 1):
        await cache.get("digits_de", version, Call.within(60))
    assert controller.calls == 3
    await cache.get("digits_de", 2, Call.within(60))
    assert controller.calls == 4


def test_the_default_is_a_quarter_of_the_memory() -> None:
    settings = Settings()
    limits = CacheLimits.of(settings, 10, 0)
    assert limits.size_bytes == machine_bytes() // 4
    assert limits.bytes_setting == "PREPROCESS_CONTRACT_CACHE_BYTES"
    assert CacheLimits.of(settings, 10, 5_000).size_bytes == 5_000
