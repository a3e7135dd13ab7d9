"""Values that postprocess reads stay with their rows, and Triton gets the model's inputs alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.unit.preprocess.pipeline_trial import Trial
from triptych.contract import Contract, Plan
from triptych.datatypes import Array
from triptych.errors import InvalidInput


def plan() -> Plan:
    """The model answers its input; the caller's number and words come back beside it."""

    def tensor(name: str, datatype: str, *dims: int, **more: Any) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": [-1, *dims], **more}

    document = {
        **{"apiVersion": "triptych.dev/v1", "kind": "Contract", "family": "echo", "max_rows": 64},
        "inputs": [tensor("x", "FP32", 2, maximum=1000), tensor("number", "INT32"), tensor("word", "BYTES", 1)],
        "preprocess": [{"op": "scale", "input": "number", "scale": 10.0, "output": "tenfold"}],
        "model": {"inputs": [tensor("x", "FP32", 2)], "outputs": [tensor("y", "FP32", 2)]},
        "postprocess": [
            {"op": "concatenate", "inputs": ["y", "tenfold"], "output": "both"},
            {"op": "rename", "input": "word", "output": "said"},
        ],
        "outputs": [tensor("both", "FP32", 3), tensor("said", "BYTES", 1)],
    }
    return Plan(Contract.model_validate_json(json.dumps(document)))


def sent(first: int, rows: int) -> dict[str, Array]:
    numbers = np.arange(first, first + rows, dtype=np.int32)
    words = np.empty((rows, 1), np.object_)
    words[:, 0] = [b"word %d" % number for number in numbers]
    return {"x": np.repeat(numbers[:, None], 2, axis=1).astype(np.float32), "number": numbers, "word": words}


def answered(first: int, rows: int) -> tuple[list[list[float]], list[list[bytes]]]:
    numbers = range(first, first + rows)
    return [[n, n, 10 * n] for n in numbers], [[b"word %d" % n] for n in numbers]


@pytest.mark.parametrize("inline_bytes", [1 << 20, 0], ids=["together", "each on a thread"])
async def test_each_row_of_a_batch_keeps_its_own_values(inline_bytes: int) -> None:
    trial = Trial(plan(), inline_bytes=inline_bytes, max_in_flight_batches=1)
    trial.upstreams.takes_s = 0.05
    parts = [(0, 1), (10, 3), (100, 2), (200, 5)]
    answers = await trial.send(*(trial.request(sent(*part)) for part in parts))
    got = [(each["both"].tolist(), each["said"].tolist()) for each in answers]
    assert got == [answered(*part) for part in parts]
    assert len(trial.upstreams.batches) < len(parts)  # some went together


async def test_a_refused_row_moves_no_value_to_another_request() -> None:
    trial = Trial(plan(), max_in_flight_batches=1)
    trial.upstreams.takes_s = 0.05
    bad = sent(5, 2)
    bad["x"][1] = 5000
    answers = await trial.send(*(trial.request(each) for each in (sent(0, 1), sent(1, 2), bad, sent(7, 3))))
    assert isinstance(answers[2], InvalidInput)
    got = [(each["both"].tolist(), each["said"].tolist()) for each in (answers[0], answers[1], answers[3])]
    assert got == [answered(0, 1), answered(1, 2), answered(7, 3)]
