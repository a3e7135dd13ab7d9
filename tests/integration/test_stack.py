"""Answers of the stack: rows, order, versions, and kinds of callers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from examples.models.digits.evaluate import evaluate
from local.environments import ensure
from local.stack import LocalStack
from tests.integration.conftest import INFER, Caller, MakeStack
from tests.integration.load import until
from tests.integration.messages import infer_request, noise_picture, objects, outputs_of, sales

PICTURES = 450  # of each version: all that were kept back
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def rows_of(answer: dict[str, list[object]]) -> list[tuple[object, ...]]:
    return list(zip(*answer.values(), strict=True))


@pytest.mark.parametrize("rows", [1, 2, 7, 256])
def test_each_row_is_answered_as_if_it_were_alone(caller: Caller, rows: int) -> None:
    tensors = sales(rows, seed=rows)
    together = rows_of(outputs_of(caller.infer(infer_request("sales_forecast_de", tensors))))
    assert len(together) == rows
    for row in range(rows):
        alone = {name: array[row : row + 1] for name, array in tensors.items()}
        assert rows_of(outputs_of(caller.infer(infer_request("sales_forecast_de", alone)))) == [together[row]]


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_each_picture_is_answered_as_if_it_were_alone(caller: Caller, rows: int) -> None:
    pictures = [noise_picture(40 + seed, 30, seed, (".png", ".jpg")[seed % 2]) for seed in range(rows)]
    answer = outputs_of(caller.infer(infer_request("digits_fr", {"image": objects(*pictures)})))
    assert all(len(values) == rows for values in answer.values())
    for row in range(rows):
        alone = outputs_of(caller.infer(infer_request("digits_fr", {"image": objects(pictures[row])})))
        assert alone["class_id"] == [answer["class_id"][row]]
        assert alone["label"] == [answer["label"][row]]
        np.testing.assert_allclose(alone["score"][0], answer["score"][row], atol=1e-5)


def test_a_family_and_a_route_name_the_same_model_as_its_own_name(caller: Caller) -> None:
    by_route = caller.infer(infer_request("sales_forecast", sales(), route="JP", id="a-1"))
    assert (by_route.model_name, by_route.model_version, by_route.id) == ("sales_forecast_jp", "1", "a-1")
    assert outputs_of(by_route) == outputs_of(caller.infer(infer_request("sales_forecast_jp", sales())))


def test_the_answer_names_the_revisions_of_the_stages(caller: Caller) -> None:
    answer = caller.infer(infer_request("sales_forecast_de", sales()))
    assert set(answer.parameters) == {"triptych_preprocess_revision", "triptych_postprocess_revision"}


def test_forecasts_are_whole_and_never_negative_and_add_up(caller: Caller) -> None:
    answer = outputs_of(caller.infer(infer_request("sales_forecast_at", sales(50))))
    assert all(unit >= 0 for row in answer["units"] for unit in row)
    assert answer["total"] == [sum(row) for row in answer["units"]]


def test_top_k_follows_the_request(caller: Caller) -> None:
    image = {"image": objects(noise_picture())}
    for count in (1, 3, 10):
        answer = outputs_of(caller.infer(infer_request("digits_jp", image, top_k=count)))
        assert [len(values[0]) for values in answer.values()] == [count] * 3
    assert len(outputs_of(caller.infer(infer_request("digits_jp", image)))["label"][0]) == 3


def test_only_the_outputs_asked_for_come_back(caller: Caller) -> None:
    request = infer_request("sales_forecast_de", sales())
    request.outputs.add(name="total")
    assert set(outputs_of(caller.infer(request))) == {"total"}


def test_typed_contents_are_taken(caller: Caller) -> None:
    tensors = sales(2)
    request = pb.ModelInferRequest(model_name="sales_forecast_de")
    for name, field in (
        ("history", "fp32_contents"),
        ("price", "fp32_contents"),
        ("promotion", "bool_contents"),
    ):
        tensor = request.inputs.add(
            name=name, datatype="BOOL" if name == "promotion" else "FP32", shape=tensors[name].shape
        )
        getattr(tensor.contents, field).extend(tensors[name].ravel().tolist())
    assert outputs_of(caller.infer(request)) == outputs_of(caller.infer(infer_request("sales_forecast_de", tensors)))


def test_a_stream_answers_in_order_and_outlives_a_bad_request(stack: LocalStack) -> None:
    def requests() -> object:
        for number in range(30):
            name = "sales_forecast_zz" if number == 4 else "sales_forecast_de"
            yield infer_request(name, sales(1, number), id=str(number))

    with grpc.insecure_channel(stack.address("preprocess")) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answers = list(stub.ModelStreamInfer(requests(), timeout=30))
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(30)]
    assert [bool(answer.error_message) for answer in answers] == [number == 4 for number in range(30)]
    assert "unknown model" in answers[4].error_message


@pytest.mark.parametrize("stage", ["preprocess", "postprocess", "controller"])
def test_every_stage_describes_itself(stack: LocalStack, stage: str) -> None:
    with triton.InferenceServerClient(stack.address(stage)) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.get_server_metadata().name == f"triptych-{stage}"
        metadata = client.get_model_metadata("sales_forecast_de", "1")
        assert [tensor.name for tensor in metadata.outputs] == ["units", "total"]
        assert client.get_model_config("sales_forecast_de", "1").config.max_batch_size == 256
    with grpc.insecure_channel(stack.address(stage)) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_statistics_count_what_was_answered(stack: LocalStack, caller: Caller) -> None:
    caller.infer(infer_request("sales_forecast_no", sales(3)))
    with triton.InferenceServerClient(stack.address("preprocess")) as client:
        (entry,) = client.get_inference_statistics("sales_forecast_no").model_stats
    assert (entry.name, entry.version, entry.inference_count, entry.execution_count) == (
        "sales_forecast_no",
        "1",
        3,
        1,
    )


def test_more_than_fifty_models_are_registered(stack: LocalStack) -> None:
    with triton.InferenceServerClient(stack.address("controller")) as client:
        names = {model.name for model in client.get_model_repository_index().models}
    assert sum(name.startswith("sales_forecast_") for name in names) == 48
    assert {"digits_gb", "digits_de", "digits_fr", "digits_es", "digits_jp"} <= names


def test_metrics_have_stage_family_version_and_code(stack: LocalStack, caller: Caller) -> None:
    caller.infer(infer_request("sales_forecast_de", sales()))
    caller.refused(infer_request("nobody_knows_this", sales()))
    with urlopen(stack.metrics_url("preprocess")) as page:
        text = page.read().decode()
    assert 'triptych_requests_total{code="OK",family="sales_forecast",stage="preprocess",version="1"}' in text
    assert 'code="NOT_FOUND",family="-"' in text
    assert "nobody_knows_this" not in text
    assert 'triptych_part_seconds_count{part="predict",stage="preprocess"}' in text


def test_logs_are_json_with_the_id_of_the_request(stack: LocalStack, caller: Caller) -> None:
    caller.refused(infer_request("nobody_knows_this", sales(), id="find-me"))
    lines = [json.loads(line) for line in stack.log("preprocess").read_text().splitlines()]
    (line,) = [line for line in lines if line.get("id") == "find-me"]
    assert line["code"] == "NOT_FOUND"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_handwriting_that_was_not_trained_on_is_read_as_accurately_as_documented(
    stack: LocalStack, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accuracy is at least 0.96 for each version; `make accuracy` prints that of a running stack."""
    assert evaluate(stack.address("preprocess"), PICTURES) == 0, capsys.readouterr().out


SPLIT = """
apiVersion: triptych.dev/v1alpha1
kind: ServedModel
metadata: {name: digits-gb}
spec:
  model: digits_gb
  traffic: [{version: 1, percent: 50}, {version: 2, percent: 50}]
"""


def test_no_answer_mixes_two_versions(make_stack: MakeStack) -> None:
    """The versions number their classes differently, so only the labels of the predicting version are right."""
    stack = make_stack({"digits-gb.yaml": SPLIT})
    caller = Caller(stack.address("preprocess"))
    pictures = [noise_picture(seed=seed) for seed in range(8)]
    words = []
    for picture in pictures:
        answers = [
            outputs_of(caller.infer(infer_request("digits_gb", {"image": objects(picture)}, version=version)))
            for version in ("1", "2")
        ]
        assert answers[0]["label"] == answers[1]["label"]
        assert answers[0]["class_id"] != answers[1]["class_id"]
        words.append({str(version): answer for version, answer in enumerate(answers, 1)})
    seen = {"1": 0, "2": 0}
    infer = caller.channel.unary_unary(INFER)
    for start in range(0, 10_000, 50):
        futures = []
        for number in range(start, start + 50):
            at = number % len(pictures)
            request = infer_request("digits_gb", {"image": objects(pictures[at])}, id=str(number))
            futures.append((at, infer.future(request.SerializeToString(), timeout=60)))
        for at, future in futures:
            answer = pb.ModelInferResponse.FromString(future.result())
            got, want = outputs_of(answer), words[at][answer.model_version]
            assert (got["label"], got["class_id"]) == (want["label"], want["class_id"])
            seen[answer.model_version] += 1
    assert sum(seen.values()) == 10_000
    assert min(seen.values()) > 0.4 * 10_000


def test_one_key_sees_one_version(make_stack: MakeStack) -> None:
    caller = Caller(make_stack({"digits-gb.yaml": SPLIT}).address("preprocess"))
    image = {"image": objects(noise_picture())}
    # The second version has its share once Triton has loaded it.
    until(lambda: caller.infer(infer_request("digits_gb", image)).model_version == "2")
    versions = {
        key: {caller.infer(infer_request("digits_gb", image, traffic_key=key)).model_version for _ in range(5)}
        for key in (f"user-{number}" for number in range(12))
    }
    assert all(len(seen) == 1 for seen in versions.values())
    assert len({version for seen in versions.values() for version in seen}) == 2


def test_traceparent_goes_through_all_stages(caller: Caller, stack: LocalStack) -> None:
    answer = caller.infer(infer_request("sales_forecast_de", sales()), traceparent=TRACEPARENT)
    assert answer.model_name == "sales_forecast_de"


@pytest.fixture(scope="session")
def kserve_python() -> Path:
    return ensure("kserve")


def test_kserves_own_client_is_answered(stack: LocalStack, kserve_python: Path) -> None:
    script = Path(__file__).with_name("kserve_client.py")
    done = subprocess.run(
        [str(kserve_python), str(script), stack.address("preprocess")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    own = {"live": True, "ready": True, "model_ready": True, "nobody_ready": False, "typed": True, "id": "7"}
    assert {name: said[name] for name in own} == own
    assert (
        said["total"]
        == outputs_of(
            Caller(stack.address("preprocess")).infer(
                infer_request(
                    "sales_forecast_de",
                    {
                        "history": np.full((1, 28), 100, np.float32),
                        "price": np.full((1, 7), 2, np.float32),
                        "promotion": np.zeros((1, 7), bool),
                    },
                )
            )
        )["total"]
    )
