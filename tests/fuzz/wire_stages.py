"""Preprocess and postprocess in one process, from the bytes of a request to the bytes of its answer.

Catalog, contracts and Triton are fakes; all code that handles a caller's bytes is real.
"""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from postprocess.servicer import PostprocessServicer
from postprocess.settings import Settings as PostprocessSettings
from preprocess.batch_executor import BatchExecutor
from preprocess.catalog import CatalogClient, Target
from preprocess.pipeline import Pipeline
from preprocess.postprocessor import postprocess_request
from preprocess.servicer import PreprocessServicer
from preprocess.settings import Settings as PreprocessSettings
from preprocess.transform import Transform
from triptych.client.contract_cache import CacheLimits, ContractCache
from triptych.contract import load_contract
from triptych.datatypes import TO_NUMPY, Array
from triptych.errors import UnknownModel
from triptych.postprocessing import Postprocessor, PredictedBatch
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.parsing import parser
from triptych.protocol.tensors import encode_response
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.settings import MAX_MESSAGE_BYTES
from triptych.runtime.short_work import short_work
from triptych.runtime.thread_pool import ThreadPool
from triptych.server.base import refusal
from triptych.server.inference_servicer import InferenceServicer
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

MODELS = Path("model-repository")
SERVED = {"sales_forecast_de": "DE", "sales_forecast_fr": "FR", "digits_de": "DE"}
PARSE: Any = parser(pb.ModelInferRequest, MAX_MESSAGE_BYTES)


class Controller:
    """Fake controller with the contracts of some models."""

    async def call(self, method: str, request: Any, _call: Call, _limit_s: float = 0.0) -> Any:
        if method != "GetContract" or request.model not in SERVED or request.version != 1:
            raise UnknownModel(getattr(request, "model", ""), SERVED)
        contract = load_contract(MODELS / request.model / "1/contract.yaml")
        return cp.GetContractReply(contract_json=contract.canonical_json())


class Upstreams:
    """Triton, which answers ones, and postprocess, which is the real one."""

    def __init__(self, contracts: ContractCache) -> None:
        self._contracts = contracts
        self.postprocess: InferenceServicer | None = None

    def has_abandoned(self, _target: Target) -> bool:
        return False

    async def predict(self, target: Target, tensors: Mapping[str, Array], call: Call) -> pb.ModelInferResponse:
        rows = len(next(iter(tensors.values())))
        plan = await self._contracts.get(target.model, target.version, call)
        outputs = {o.name: np.ones((rows, *o.shape[1:]), TO_NUMPY[o.datatype]) for o in plan.contract.model.outputs}
        return encode_response(pb.ModelInferResponse(), outputs)

    async def __call__(self, batch: PredictedBatch, call: Call) -> pb.ModelInferResponse:
        """Postprocess's answer."""
        assert self.postprocess is not None
        return await self.postprocess.model_infer(PARSE(postprocess_request(batch)), call)


class Stages:
    """Both stages; must be created in a running event loop."""

    def __init__(self) -> None:
        controller: Any = Controller()
        contracts = ContractCache(controller, CacheLimits(10))
        upstreams: Any = Upstreams(contracts)
        self._thread_pool = ThreadPool(2)
        finishing, counted = PostprocessSettings(), StageMetrics("postprocess", Tracing())
        work = short_work(self._thread_pool, finishing)
        postprocessor = Postprocessor(counted, work, InFlightBytes(finishing.max_bytes_in_flight), finishing.revision)
        self.postprocess = PostprocessServicer(finishing, counted, contracts, postprocessor, controller)
        upstreams.postprocess = self.postprocess
        settings, metrics = PreprocessSettings(), StageMetrics("preprocess", Tracing())
        catalog = CatalogClient(controller)
        catalog.apply(_catalog())
        transform = Transform(short_work(self._thread_pool, settings))
        executor = BatchExecutor(metrics, transform, upstreams, upstreams, settings.revision)
        pipeline = Pipeline(settings, transform, upstreams, executor)
        self.preprocess = PreprocessServicer(settings, metrics, catalog, contracts, pipeline)

    async def infer(self, servicer: InferenceServicer, data: bytes) -> tuple[str, str, bytes]:
        """Code, error text and answer, as a server sends them."""
        try:
            answer = await servicer.model_infer(PARSE(data), Call.within(20))
            return "OK", "", answer.SerializeToString()
        except Exception as error:
            code, text, _ = refusal(error, "ModelInfer")
            reported = "".join(traceback.format_exception(error)[-6:]) if code.name == "INTERNAL" else text
            return code.name, reported, b""

    async def stream(self, servicer: InferenceServicer, messages: list[bytes]) -> list[pb.ModelStreamInferResponse]:
        async def requests() -> AsyncIterator[Callable[[], pb.ModelInferRequest]]:
            for data in messages:
                yield partial(PARSE, data)

        answers = servicer.model_stream_infer(requests(), Call.within(20))
        return [pb.ModelStreamInferResponse.FromString(answer) async for answer in answers]

    def close(self) -> None:
        self._thread_pool.close()


def _catalog() -> cp.CatalogUpdate:
    update = cp.CatalogUpdate(full=True)
    for name, route in SERVED.items():
        model = update.models.add(name=name, family=name.rpartition("_")[0], route=route)
        model.versions.add(version=1, percent=100, predictors=["127.0.0.1:1"])
        model.aliases.update({"production": 1, "gone": 9})
    return update
