"""The work of postprocess: the limit of concurrent work, and the cause of each fault. What it computes is the
contract's, and tested there."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from local.environments import ROOT
from triptych.contract import Plan, load_contract
from triptych.errors import InvalidRequest, Overloaded
from triptych.postprocessing import Postprocessor, PredictedBatch
from triptych.protocol.call import Call
from triptych.protocol.tensors import decode_response
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.thread_pool import ThreadPool
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.request_scope import RequestScope
from triptych.telemetry.tracing import Tracing

SALES = Plan(load_contract(ROOT / "model-repository/sales_forecast_de/1/contract.yaml"))


def forecast(value: float) -> PredictedBatch:
    return PredictedBatch("m", "1", SALES, {"forecast": np.full((2, 7), value, np.float32)}, {}, SALES.outputs)


async def test_more_bytes_than_the_limit_are_refused_while_others_are_in_work() -> None:
    thread_pool, metrics = ThreadPool(1, inline_bytes=0), StageMetrics("postprocess", Tracing())
    postprocessor = Postprocessor(metrics, thread_pool, InFlightBytes(1), "r")

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
