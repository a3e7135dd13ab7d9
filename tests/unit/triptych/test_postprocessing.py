"""The work of postprocess: the limit of concurrent work, and the cause of each fault. What it computes is the
contract's, and tested there."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from local.environments import ROOT
from triptych.contract import Contract, Plan, load_contract
from triptych.datatypes import Array
from triptych.errors import InvalidRequest, Overloaded
from triptych.postprocessing import Postprocessor, PredictedBatch
from triptych.protocol.call import Call
from triptych.protocol.tensors import decode_response
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.short_work import ShortWork
from triptych.runtime.thread_pool import ThreadPool
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.request_scope import RequestScope
from triptych.telemetry.tracing import Tracing

SALES = Plan(load_contract(ROOT / "model-repository/sales_forecast_de/1/contract.yaml"))


def forecast(value: float) -> PredictedBatch:
    return PredictedBatch("m", "1", SALES, {"forecast": np.full((2, 7), value, np.float32)}, {}, SALES.outputs)


async def test_more_bytes_than_the_limit_are_refused_while_others_are_in_work() -> None:
    thread_pool, metrics = ThreadPool(1), StageMetrics("postprocess", Tracing())
    postprocessor = Postprocessor(metrics, ShortWork(thread_pool, 0, 0), InFlightBytes(1), "r")

    async def totals(value: float) -> list[float]:
        with RequestScope(metrics, pb.ModelInferRequest(), Call.within(20)):
            return list(decode_response(await postprocessor(forecast(value)))["total"])

    first, second = await asyncio.gather(*(totals(1) for _ in range(2)), return_exceptions=True)
    assert first == [7, 7]
    assert isinstance(second, Overloaded)
    with pytest.raises(InvalidRequest, match="postprocess: input .forecast.: want values that fit INT64"):
        await totals(1e30)
    assert await totals(1) == [7, 7]
    thread_pool.close()


async def test_files_of_the_callers_size_count_before_they_are_made() -> None:
    document = SALES.contract.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["inputs"] = [{"name": "size", "datatype": "INT32", "shape": [-1, 2]}]
    document["preprocess"] = [{"op": "cast", "input": "size", "datatype": "FP32", "output": "x"}]
    document["model"] = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "classes", "datatype": "UINT8", "shape": [-1, 2, 2]}],
    }
    document["postprocess"] = [{"op": "encode_mask", "input": "classes", "size": "size", "width": 2, "height": 2}]
    document["outputs"] = [{"name": "classes", "datatype": "BYTES", "shape": [-1]}]
    plan = Plan(Contract.model_validate_json(json.dumps(document)))
    outputs: dict[str, Array] = {"classes": np.zeros((1, 2, 2), np.uint8), "size": np.array([[3000, 2000]], np.int32)}
    thread_pool, in_flight_bytes = ThreadPool(1), InFlightBytes(1)
    work, metrics = ShortWork(thread_pool, 0, 0), StageMetrics("postprocess", Tracing())
    postprocessor = Postprocessor(metrics, work, in_flight_bytes, "r")
    in_flight_bytes.acquire(1)
    with pytest.raises(Overloaded, match=f"{3000 * 2000 + 4 + 8} more are over the limit"):
        await postprocessor(PredictedBatch("m", "1", plan, outputs, {}, plan.outputs))
    thread_pool.close()
