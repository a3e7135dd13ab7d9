"""The two stages without sockets: request bytes in, answer bytes out. All upstreams are stubs that answer at once.

Triton, postprocess and the controller are stubbed at `Upstream.call`. Everything else of a stage runs, except its
server and its client: those are measured as `hop`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import numpy as np
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from benchmarks.serving.workloads import MODELS, WORKLOADS
from benchmarks.stages import hop
from postprocess.servicer import PostprocessServicer
from postprocess.settings import Settings as PostprocessSettings
from preprocess.batch_executor import BatchExecutor
from preprocess.catalog import CatalogClient
from preprocess.pipeline import Pipeline
from preprocess.postprocessor import InProcessPostprocess, RemotePostprocess
from preprocess.predictors import Predictors
from preprocess.servicer import PreprocessServicer
from preprocess.settings import IN_PROCESS, Settings
from preprocess.transform import Transform
from triptych.client.contract_cache import CacheLimits, ContractCache
from triptych.client.transport import Transport
from triptych.contract import Contract, load_contract
from triptych.datatypes import TO_NUMPY, Array
from triptych.postprocessing import Postprocessor
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.methods import encoded
from triptych.protocol.tensors import encode_request, encode_response
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.short_work import short_work
from triptych.runtime.thread_pool import ThreadPool
from triptych.server.inference_servicer import InferenceServicer
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

WORKLOAD = WORKLOADS["W1"]
MODEL_NAMES = (WORKLOAD.model, *(f"{WORKLOAD.model}_{number}" for number in range(1, 32)))
TRITON = "127.0.0.1:8001"
BY_CALLER = {"te": "trailers", "user-agent": "grpc-python/1.68"}

Answer = Callable[[bytes], Coroutine[Any, Any, bytes]]


class Canned:
    """Stub of an upstream that answers in the next turn of the event loop. It encodes requests and parses answers."""

    def __init__(self, outputs: Callable[[int], Mapping[str, Array]]) -> None:
        self._outputs, self._by_size = outputs, dict[int, bytes]()

    async def call(
        self, _method: str, request: Message | bytes, _call: Call, *_limits: object
    ) -> pb.ModelInferResponse:
        data = encoded(request)
        await asyncio.sleep(0)
        if len(data) not in self._by_size:
            rows = pb.ModelInferRequest.FromString(data).inputs[0].shape[0]
            answer = encode_response(pb.ModelInferResponse(model_name=WORKLOAD.model), self._outputs(rows))
            self._by_size[len(data)] = answer.SerializeToString()
        return pb.ModelInferResponse.FromString(self._by_size[len(data)])


class ContractSource:
    """Stub of the controller that answers GetContract."""

    def __init__(self, contract: Contract) -> None:
        self._json = contract.model_dump_json(by_alias=True).encode()

    async def call(self, _method: str, _request: Message, _call: Call) -> cp.GetContractReply:
        return cp.GetContractReply(contract_json=self._json)


async def preprocess(contract: Contract, postprocess: str = "127.0.0.1:9001") -> Answer:
    settings, metrics = Settings(postprocess=postprocess), StageMetrics("preprocess", Tracing())
    controller: Any = ContractSource(contract)
    catalog = CatalogClient(controller)
    version = cp.Version(version=1, percent=100, predictors=[TRITON])
    family = contract.family
    models = [cp.Model(name=model, family=family, route=model, versions=[version]) for model in MODEL_NAMES]
    catalog.apply(cp.CatalogUpdate(full=True, models=models))
    predictors = Predictors(settings, controller, Transport())
    triton: Any = predictors._predictor(TRITON).upstream
    triton.call = Canned(lambda rows: _filled(contract.model.outputs, rows)).call
    thread_pool = ThreadPool(1)
    last: Any = InProcessPostprocess(
        settings, StageMetrics("postprocess", Tracing()), short_work(thread_pool, settings)
    )
    if settings.postprocess != IN_PROCESS:
        last = RemotePostprocess(settings, Transport())
        last._upstream.call = Canned(lambda rows: _filled(contract.outputs, rows)).call
    transform = Transform(short_work(thread_pool, settings))
    executor = BatchExecutor(metrics, transform, predictors, last, settings.revision)
    pipeline = Pipeline(settings, transform, predictors, executor)
    contracts = ContractCache(controller, CacheLimits(settings.contract_cache))
    return _answer(PreprocessServicer(settings, metrics, catalog, contracts, pipeline))


async def in_process(contract: Contract) -> Answer:
    """Preprocess with postprocess in process."""
    return await preprocess(contract, IN_PROCESS)


async def postprocess(contract: Contract) -> Answer:
    settings, metrics = PostprocessSettings(), StageMetrics("postprocess", Tracing())
    controller: Any = ContractSource(contract)
    in_flight_bytes = InFlightBytes(settings.max_bytes_in_flight)
    work = short_work(ThreadPool(1), settings)
    postprocessor = Postprocessor(metrics, work, in_flight_bytes, settings.revision)
    contracts = ContractCache(controller, CacheLimits(settings.contract_cache))
    return _answer(PostprocessServicer(settings, metrics, contracts, postprocessor, controller))


async def one_hop(contract: Contract) -> Answer:
    """Both ends of one call over HTTP/2, with nothing around it."""
    return await hop.connect(request_bytes("hop", contract))


STAGES: Mapping[str, Callable[[Contract], Awaitable[Answer]]] = {
    "preprocess": preprocess,
    "postprocess": postprocess,
    "preprocess in process": in_process,
    "hop": one_hop,
}


def contract() -> Contract:
    return load_contract(MODELS / WORKLOAD.model / "1/contract.yaml")


def request_bytes(stage: str, contract: Contract, number: int = 0) -> bytes:
    """Serialised request of W1 to a stage, from a caller or from preprocess. `number` is that of the model."""
    request = pb.ModelInferRequest(model_name=MODEL_NAMES[number])
    if stage != "postprocess":
        encode_request(request, WORKLOAD.requests[0])
    else:
        request.model_version = "1"
        encode_request(request, _filled(contract.model.outputs, 1))
    data: bytes = request.SerializeToString()
    return data


def _answer(servicer: InferenceServicer) -> Answer:
    async def answer(data: bytes) -> bytes:
        request, call = pb.ModelInferRequest.FromString(data), Call.within(30.0, BY_CALLER)
        call.on_settled = []
        encoded: bytes = (await servicer.model_infer(request, call)).SerializeToString()
        call.settle("OK")
        return encoded

    return answer


def _filled(specs: Any, rows: int) -> Mapping[str, Array]:
    return {spec.name: np.ones((rows, *spec.shape[1:]), TO_NUMPY[spec.datatype]) for spec in specs}
