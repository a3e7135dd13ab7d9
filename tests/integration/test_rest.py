"""The REST port of the running stack, by Triton's client, KServe's client and curl, beside gRPC."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from local.endpoints import free_endpoints
from local.environments import ensure
from local.stack import LocalStack
from tests.integration.conftest import Caller
from tests.integration.messages import infer_request, outputs_of

MODEL = "sales_forecast_de"
SALES = {
    "history": np.full((1, 28), 100, np.float32),
    "price": np.full((1, 7), 2, np.float32),
    "promotion": np.zeros((1, 7), bool),
}


@pytest.fixture(scope="module")
def stack_with_rest(
    tmp_path_factory: pytest.TempPathFactory, predictor_python: Path
) -> Iterator[tuple[LocalStack, str]]:
    port = next(iter(free_endpoints().values())).port
    variables = {"PREPROCESS_REST_PORT": str(port)}
    folder = tmp_path_factory.mktemp("rest")
    with LocalStack(free_endpoints(), folder, predictor_python, variables=variables) as running:
        yield running, f"127.0.0.1:{port}"


@pytest.fixture
def address(stack_with_rest: tuple[LocalStack, str]) -> str:
    return stack_with_rest[1]


@pytest.fixture
def expected(stack_with_rest: tuple[LocalStack, str]) -> list[float]:
    """The total of the sales by gRPC."""
    caller = Caller(stack_with_rest[0].address("preprocess"))
    total = np.array(outputs_of(caller.infer(infer_request(MODEL, SALES)))["total"], np.float32).ravel()
    caller.channel.close()
    return total.tolist()


def inputs(*, binary: bool) -> list[triton.InferInput]:
    made = []
    for name, array in SALES.items():
        tensor = triton.InferInput(name, list(array.shape), "BOOL" if array.dtype == bool else "FP32")
        tensor.set_data_from_numpy(array, binary_data=binary)
        made.append(tensor)
    return made


@pytest.mark.parametrize("binary", [False, True])
def test_tritons_client_gets_the_answer_of_grpc(address: str, expected: list[float], binary: bool) -> None:
    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL)
        assert not client.is_model_ready("nobody")
        assert client.get_model_metadata(MODEL)["versions"] == ["1"]
        outputs = [triton.InferRequestedOutput("total", binary_data=binary)]
        answer = client.infer(MODEL, inputs(binary=binary), outputs=outputs, request_id="7")
        assert answer.as_numpy("total").ravel().tolist() == pytest.approx(expected, abs=0)
        assert answer.get_response()["id"] == "7"
        routed = client.infer("sales_forecast", inputs(binary=binary), parameters={"route": "DE"})
        assert routed.get_response()["model_name"] == MODEL
        with pytest.raises(InferenceServerException, match="unknown model or family 'nobody'"):
            client.infer("nobody", inputs(binary=binary))


def test_kserves_client_gets_the_answer_of_grpc(address: str, expected: list[float]) -> None:
    script = Path(__file__).with_name("kserve_rest_client.py")
    command = [str(ensure("kserve")), str(script), f"http://{address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["live"] is said["ready"] is said["model_ready"] is True
    for total in said["totals"]:
        assert np.array(total, np.float32).ravel().tolist() == expected


def test_a_line_of_curl_gets_the_answer_of_grpc(address: str, expected: list[float]) -> None:
    tensors = [
        {"name": name, "datatype": "BOOL" if each.dtype == bool else "FP32", "shape": each.shape, "data": each.tolist()}
        for name, each in SALES.items()
    ]
    url = f"http://{address}/v2/models/{MODEL}/infer"
    done = subprocess.run(["curl", "-sS", url, "-d", json.dumps({"inputs": tensors})], capture_output=True, timeout=60)
    answer = json.loads(done.stdout)
    (total,) = (each["data"] for each in answer["outputs"] if each["name"] == "total")
    assert np.array(total, np.float32).tolist() == expected
