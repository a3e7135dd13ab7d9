"""Builds a pipeline between a scripted Triton and a postprocess that does its work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from preprocess.batch_executor import BatchExecutor
from preprocess.catalog import Target
from preprocess.inference import InferenceRequest, InferenceResult
from preprocess.pipeline import Pipeline
from preprocess.settings import Settings
from preprocess.transform import Transform
from triptych.contract import Plan, load_contract
from triptych.datatypes import Array
from triptych.postprocessing import PredictedBatch
from triptych.protocol.call import Call
from triptych.protocol.tensors import Tensors, decode_response, encode_request, encode_response, request_tensors
from triptych.runtime.short_work import short_work
from triptych.runtime.thread_pool import ThreadPool
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

MODELS = Path("model-repository")
SALES, DIGITS = (Plan(load_contract(MODELS / name / "1/contract.yaml")) for name in ("sales_forecast_de", "digits_de"))


class Scripted:
    """A Triton that answers with its inputs, and a postprocess that does its work."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.batches: list[int] = []
        self.traces: list[tuple[tuple[str, str], ...]] = []
        self.takes_s = 0.0
        self.abandoned = False
        self.go: asyncio.Event | None = None  # awaited by each batch, if it is set
        self.fails: Callable[[Mapping[str, Array]], Exception | None] = lambda _: None

    def has_abandoned(self, _target: Target) -> bool:
        return self.abandoned

    async def predict(self, _target: Target, tensors: Mapping[str, Array], call: Call) -> pb.ModelInferResponse:
        (features,) = tensors.values()
        self.traces.append(call.trace_metadata())
        self.batches.append(len(features))
        await asyncio.sleep(self.takes_s)
        if self.go is not None:
            await self.go.wait()
        if error := self.fails(tensors):
            raise error
        (output,) = self.plan.contract.model.outputs
        flat = features.reshape(len(features), -1)[:, : output.shape[1]]
        return encode_response(pb.ModelInferResponse(), {output.name: np.ascontiguousarray(flat, np.float32)})

    async def postprocess(self, batch: PredictedBatch, _call: Call) -> pb.ModelInferResponse:
        outputs = self.plan.postprocess(batch.outputs, batch.parameters)
        answer = pb.ModelInferResponse(model_name=batch.model, model_version=batch.version)
        return encode_response(answer, {name: outputs[name] for name in batch.output_names})


class Trial:
    def __init__(self, plan: Plan = SALES, **settings: Any) -> None:
        self.plan, self.upstreams = plan, Scripted(plan)
        own = Settings(**settings)
        transform = Transform(short_work(ThreadPool(1), own))
        upstreams: Any = self.upstreams
        postprocess: Any = lambda batch, call: self.upstreams.postprocess(batch, call)  # noqa: E731 - tests script it later
        metrics = StageMetrics("preprocess", Tracing())
        executor = BatchExecutor(metrics, transform, upstreams, postprocess, own.revision)
        self.pipeline = Pipeline(own, transform, upstreams, executor)

    def request(self, tensors: Mapping[str, Array], id: str = "", **changes: Any) -> InferenceRequest:
        target = Target("f", "m", changes.pop("version", 1), 100, ("127.0.0.1:1",))
        fields: dict[str, Any] = {"parameters": self.plan.check_parameters({}), "output_names": self.plan.outputs}
        call, own = changes.pop("call", Call.within(20)), sent(tensors)
        sizes = {"rows": own.rows, "size_bytes": own.size_bytes}
        return InferenceRequest(id, target, self.plan, call, own, **{**fields, **sizes, **changes})

    async def infer(self, *requests: InferenceRequest) -> list[InferenceResult]:
        """The results of requests that come at once."""
        return list(await asyncio.gather(*map(self.pipeline.infer, requests)))

    async def send(self, *requests: InferenceRequest) -> list[Any]:
        """Answers as dicts of arrays, or errors."""
        outcomes = await asyncio.gather(*map(self.pipeline.infer, requests), return_exceptions=True)
        return [each if isinstance(each, BaseException) else decode_response(each.response) for each in outcomes]


def sent(tensors: Mapping[str, Array]) -> Tensors:
    return request_tensors(encode_request(pb.ModelInferRequest(), tensors))


def sales(first: float, rows: int = 1) -> dict[str, Array]:
    """The scripted model answers with the first seven days."""
    history = np.full((rows, 28), first, np.float32) + np.arange(rows, dtype=np.float32)[:, None]
    return {"history": history, "price": np.ones((rows, 7), np.float32), "promotion": np.zeros((rows, 7), np.bool_)}
