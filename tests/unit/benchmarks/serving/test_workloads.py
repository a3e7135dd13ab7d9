"""Workloads: the peers' work equals that of the contracts, and load generators can read the data."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.measurement.ghz import message
from benchmarks.serving.programs import work
from benchmarks.serving.workloads import MODELS, WORKLOADS, ServingWorkload, differences, write_data
from triptych.contract import Plan, load_contract
from triptych.protocol.tensors import to_raw


def plan_of(workload: ServingWorkload) -> Plan:
    return Plan(load_contract(MODELS / workload.model / "1/contract.yaml"))


@pytest.mark.parametrize("name", ["W1", "W2", "W3"])
def test_peers_prepare_the_tensors_that_the_contract_prepares(name: str) -> None:
    workload = WORKLOADS[name]
    plan = plan_of(workload)
    for request, prepared in list(zip(workload.requests, workload.prepared, strict=True))[:4]:
        plan.check_inputs(request)
        assert not list(differences(plan.preprocess(request), prepared))


@pytest.mark.parametrize(("name", "output", "shape"), [("W1", "forecast", (3, 7)), ("W2", "logits", (3, 10))])
def test_peers_answer_what_the_contract_answers(name: str, output: str, shape: tuple[int, int]) -> None:
    workload = WORKLOADS[name]
    predicted = {output: np.random.default_rng(0).normal(3, 20, shape).astype(np.float32)}
    plan = plan_of(workload)
    wanted = plan.postprocess(predicted, plan.check_parameters({}))
    assert not list(differences(work.after(workload.kind, predicted), wanted))


def test_all_requests_of_a_workload_differ() -> None:
    for workload in WORKLOADS.values():
        seen = {b"".join(to_raw(array) for array in request.values()) for request in workload.requests}
        assert len(seen) == len(workload.requests)


def test_a_wrong_value_a_wrong_shape_and_a_missing_output_are_differences() -> None:
    want = {"units": np.array([[1, 2]]), "score": np.array([0.5], np.float32)}
    assert not list(differences({"units": np.array([[1, 2]]), "score": np.array([[0.50001]], np.float32)}, want))
    assert len(list(differences({"units": np.array([[1, 3]]), "score": np.array([0.6], np.float32)}, want))) == 2
    assert list(differences({"units": np.array([[1, 2, 3]])}, want)) == [
        "output 'units': want shape [1, 2], got [1, 3]",
        "no output 'score'",
    ]


def test_data_for_a_batching_server_has_a_step_for_each_row(tmp_path: Path) -> None:
    workload = WORKLOADS["W3"]
    steps = json.loads(write_data(workload.requests[:2], tmp_path / "data.json", batched=True).read_text())["data"]
    assert len(steps) == 32
    assert steps[17]["history"]["shape"] == [28]
    row = np.frombuffer(base64.b64decode(steps[17]["history"]["content"]["b64"]), np.float32)
    assert row.tolist() == workload.requests[1]["history"][1].tolist()


def test_data_for_another_server_has_a_step_for_each_request_with_pictures_length_first(tmp_path: Path) -> None:
    workload = WORKLOADS["W2"]
    steps = json.loads(write_data(workload.requests[:3], tmp_path / "data.json", batched=False).read_text())["data"]
    assert len(steps) == 3
    assert steps[0]["box"]["shape"] == [1, 4]
    picture = base64.b64decode(steps[0]["image"]["content"]["b64"])
    assert int.from_bytes(picture[:4], "little") == len(picture) - 4 == len(workload.requests[0]["image"][0])


def test_a_message_names_its_route_and_carries_raw_contents() -> None:
    made = message("sales_forecast", WORKLOADS["W1"].requests[0], "C0007")
    assert made["parameters"] == {"route": {"stringParam": "C0007"}}
    assert [tensor["datatype"] for tensor in made["inputs"]] == ["FP32", "FP32", "BOOL"]
    assert [len(base64.b64decode(raw)) for raw in made["rawInputContents"]] == [112, 28, 7]
