"""Requests to a recurrent network, whose rows are in the second dimension, share a batch and keep their own rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from tests.onnx_files import recurred
from tests.unit.preprocess.pipeline_trial import Trial
from triptych.contract import Contract, Plan
from triptych.datatypes import Array
from triptych.protocol.tensors import encode_response


def plan() -> Plan:
    def tensor(name: str, *dims: int, axis: int | None = None) -> dict[str, Any]:
        spec = {"name": name, "datatype": "FP32", "shape": [-1, *dims]}
        return spec if axis is None else {**spec, "rows_axis": axis}

    document = {
        **{"apiVersion": "triptych.dev/v1", "kind": "Contract", "family": "speech", "max_rows": 64},
        "inputs": [tensor("x", -1, 3), tensor("h", 2)],
        "model": {"inputs": [tensor("x", -1, 3, axis=1), tensor("h", 2)], "outputs": [tensor("y", -1, 2, axis=1)]},
        "outputs": [tensor("y", -1, 2)],
    }
    return Plan(Contract.model_validate_json(json.dumps(document)))


class RecurrentNetwork:
    """A Triton with a network from x [time,rows,3] and h [rows,2] to y [time,rows,2]."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    async def predict(self, _target: Any, tensors: Mapping[str, Array], _call: Any) -> pb.ModelInferResponse:
        x, h = tensors["x"], tensors["h"]
        self.batches.append(len(h))
        states = np.stack([recurred(x[:, row], h[row]) for row in range(len(h))], axis=1)
        return encode_response(pb.ModelInferResponse(), {"y": states.astype(np.float32)})


async def test_requests_of_several_rows_are_joined_in_the_dimension_of_the_rows() -> None:
    trial, network = Trial(plan(), max_in_flight_batches=1), RecurrentNetwork()
    trial.upstreams.predict = network.predict  # type: ignore[method-assign,assignment]
    random = np.random.default_rng(0)
    sent = [
        {
            "x": random.normal(size=(rows, 4, 3)).astype(np.float32),
            "h": random.normal(size=(rows, 2)).astype(np.float32),
        }
        for rows in (1, 3, 2, 5)
    ]
    answers = await trial.send(*map(trial.request, sent))
    for each, answer in zip(sent, answers, strict=True):
        alone = [recurred(x, h) for x, h in zip(each["x"], each["h"], strict=True)]
        np.testing.assert_allclose(answer["y"], alone, atol=1e-6)
    assert sum(network.batches) == 11
    assert len(network.batches) < len(sent)
