"""Rows that are padded to the longest of their batch: a request that is refused costs the others nothing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from tests.unit.preprocess.pipeline_trial import Trial
from triptych.contract import Contract, Plan
from triptych.contract.steps.audio import _silence
from triptych.datatypes import Array
from triptych.errors import InvalidInput
from triptych.protocol.tensors import encode_response


def plan() -> Plan:
    """The model takes signals of any length and counts their samples that are not padding."""
    document = {
        **{"apiVersion": "triptych.dev/v1", "kind": "Contract", "family": "sound", "max_rows": 64},
        "inputs": [{"name": "file", "datatype": "BYTES", "shape": [-1]}],
        "preprocess": [{"op": "decode_wav", "input": "file", "sample_rate": 8000, "output": "x", "lengths": "samples"}],
        "model": {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
        },
        "postprocess": [{"op": "rename", "input": "samples", "output": "count"}],
        "outputs": [{"name": "count", "datatype": "INT32", "shape": [-1]}],
    }
    return Plan(Contract.model_validate_json(json.dumps(document)))


async def test_a_refused_request_fails_no_other_of_another_length() -> None:
    trial, widths = Trial(plan(), max_in_flight_batches=1), []

    async def predict(_target: Any, tensors: dict[str, Array], _call: Any) -> pb.ModelInferResponse:
        widths.append(tensors["x"].shape)
        return encode_response(pb.ModelInferResponse(), {"y": np.zeros(len(tensors["x"]), np.float32)})

    trial.upstreams.predict = predict  # type: ignore[method-assign,assignment]
    lengths = (40, 30, 40, 20)
    files = [_silence(8000, length) for length in lengths]
    files.insert(2, b"no sound")
    answers = await trial.send(*(trial.request({"file": np.array([file], object)}) for file in files))
    assert isinstance(answers.pop(2), InvalidInput)
    assert [each["count"].tolist() for each in answers] == [[length] for length in lengths]
    assert (2, 40) in widths or (1, 40) in widths
