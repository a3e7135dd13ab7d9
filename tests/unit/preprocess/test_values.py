"""Values pass the stack bit by bit if neither contract nor model changes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import service_pb2 as pb

from preprocess.batch_executor import BatchExecutor
from preprocess.catalog import Target
from preprocess.inference import InferenceRequest
from preprocess.pipeline import Pipeline
from preprocess.settings import Settings
from preprocess.transform import Transform
from triptych.contract import Contract, Plan
from triptych.datatypes import TO_NUMPY, Array
from triptych.postprocessing import PredictedBatch
from triptych.protocol.call import Call
from triptych.protocol.tensors import (
    decode_request,
    encode_request,
    encode_response,
    request_tensors,
    response_tensors,
    to_raw,
)
from triptych.runtime.short_work import ShortWork
from triptych.runtime.thread_pool import ThreadPool
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing


def plan(datatype: str) -> Plan:
    tensor = {"name": "x", "datatype": datatype, "shape": [-1, 3]}
    given = tensor | ({"finite": False} if datatype.startswith("FP") else {})
    document = {
        **{"apiVersion": "triptych.dev/v1", "kind": "Contract", "family": "same", "route": "X", "max_rows": 64},
        **{"inputs": [given], "model": {"inputs": [tensor], "outputs": [tensor]}, "outputs": [tensor]},
    }
    return Plan(Contract.model_validate(document))


class Same:
    """A model that answers what it gets, and the real postprocess of the contract."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def has_abandoned(self, _target: Target) -> bool:
        return False

    async def predict(self, _target: Target, tensors: Mapping[str, Array], _call: Call) -> pb.ModelInferResponse:
        return encode_response(pb.ModelInferResponse(), tensors)

    async def __call__(self, batch: PredictedBatch, _call: Call) -> pb.ModelInferResponse:
        tensors = decode_request(encode_request(pb.ModelInferRequest(), batch.outputs), self._plan.check_model_output)
        return encode_response(pb.ModelInferResponse(), self._plan.postprocess(tensors))


async def answers(datatype: str, parts: Sequence[Array]) -> list[bytes]:
    """The raw answers to requests that come at once, so that they are one batch."""
    own, upstreams = plan(datatype), Same(plan(datatype))
    made: Any = upstreams
    transform = Transform(ShortWork(ThreadPool(1), 1 << 20, 1))
    executor = BatchExecutor(StageMetrics("preprocess", Tracing()), transform, made, made, "r")
    pipeline = Pipeline(Settings(), transform, made, executor)
    results = await asyncio.gather(*[pipeline.infer(inference_request(own, part)) for part in parts])
    raw = []
    for answer, part in zip([result.response for result in results], parts, strict=True):
        (tensor,) = response_tensors(answer).layout.declared
        assert (tensor.name, tensor.shape) == ("x", part.shape)
        raw += answer.raw_output_contents
    return raw


def inference_request(plan: Plan, part: Array) -> InferenceRequest:
    target, tensors = Target("same", "same_x", 1, 100, ("127.0.0.1:1",)), request_tensors(request(part))
    call, size_bytes = Call.within(20), tensors.size_bytes
    return InferenceRequest("", target, plan, call, tensors, {}, plan.outputs, tensors.rows, size_bytes)


def request(array: Array) -> pb.ModelInferRequest:
    return encode_request(pb.ModelInferRequest(), {"x": array})


EDGES: dict[str, list[Any]] = {
    "FP16": [-0.0, 65504, 6e-8, np.nan, np.inf, -np.inf],
    "FP32": [-0.0, 3.4e38, 1e-45, np.nan, np.inf, -np.inf],
    "FP64": [-0.0, 1.7e308, 5e-324, np.nan, np.inf, -np.inf],
    "UINT64": [0, 2**63, 2**64 - 1] * 2,
    "INT64": [-(2**63), -1, 2**63 - 1] * 2,
    "BYTES": [b"", b"\0", b"a\0", b"\xff\xfe", b"\0" * 9, "é".encode()],
}


@pytest.mark.parametrize("datatype", EDGES)
async def test_the_edges_of_a_datatype_come_back(datatype: str) -> None:
    array = np.empty(6, TO_NUMPY[datatype])
    array[:] = EDGES[datatype]
    first, second = array.reshape(2, 3), array[::-1].reshape(2, 3).copy()
    assert await answers(datatype, [first, second]) == [to_raw(first), to_raw(second)]


def of(datatype: str) -> st.SearchStrategy[Array]:
    shape = st.tuples(st.integers(1, 4), st.just(3))
    if datatype == "BYTES":
        return arrays.arrays(np.object_, shape, elements=st.binary(max_size=12), fill=st.nothing())
    return arrays.arrays(TO_NUMPY[datatype], shape)


@settings(max_examples=60, deadline=None)
@given(st.data())
async def test_every_request_gets_its_own_answer(data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from(sorted(TO_NUMPY)))
    parts = data.draw(st.lists(of(datatype), min_size=1, max_size=4))
    assert await answers(datatype, parts) == [to_raw(part) for part in parts]
