"""A new column of one country: versions with it stand beside versions without it, also in a canary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.integration.conftest import MakeStack
from tests.integration.load import until
from tests.model_folders import publish, served_model
from triptych.datatypes import Array

INPUT = "  - {name: factor, datatype: FP32, shape: [-1, 2], required: false}\n"
STEPS = """\
preprocess:
  - {op: require, input: factor, default: 1.0}
  - {op: multiply, inputs: [x, factor], output: x}
"""
SENT = {"x": np.ones((1, 2), np.float32), "factor": np.full((1, 2), 3, np.float32)}


def published(models: Path, name: str, version: int, *, knows_factor: bool = False, ignores: bool = False) -> None:
    contract = publish(models, name, version) / "contract.yaml"
    text = contract.read_text()
    if knows_factor:
        text = text.replace("model:\n", f"{INPUT}{STEPS}model:\n", 1)
    contract.write_text(text.replace("inputs:\n", "unknown_inputs: ignore\ninputs:\n", 1) if ignores else text)


@pytest.fixture
def client(make_stack: MakeStack, tmp_path: Path) -> Iterator[triton.InferenceServerClient]:
    models = tmp_path / "models"
    published(models, "sales_de", 1, ignores=True)
    published(models, "sales_de", 2, knows_factor=True)
    published(models, "sales_fr", 1)
    documents = {"de.yaml": served_model("sales_de", {1: 50, 2: 50})}
    stack = make_stack(documents, model_repository=models)
    with triton.InferenceServerClient(stack.address("preprocess")) as client:
        yield client


def ask(
    client: triton.InferenceServerClient, arrays: dict[str, Array], route: str, key: str
) -> tuple[str, list[float]]:
    """The version that answers, and its answer."""
    tensors = [triton.InferInput(name, array.shape, "FP32") for name, array in arrays.items()]
    for tensor, array in zip(tensors, arrays.values(), strict=True):
        tensor.set_data_from_numpy(array)
    answer = client.infer("sales", tensors, parameters={"route": route, "traffic_key": key}, client_timeout=60)
    return answer.get_response().model_version, answer.as_numpy("y").ravel().tolist()


def test_a_caller_sends_a_new_input_to_all_versions_of_a_canary(client: triton.InferenceServerClient) -> None:
    keys = [f"shop {number}" for number in range(20)]
    until(lambda: {ask(client, SENT, "DE", key)[0] for key in keys} == {"1", "2"})  # once both are loaded
    plain = {"x": SENT["x"]}
    for key in keys:
        version, without = ask(client, plain, "DE", key)
        assert ask(client, SENT, "DE", key) == (version, [each * (3 if version == "2" else 1) for each in without])
    with pytest.raises(InferenceServerException, match="input 'factor': want one of x, got an input of another name"):
        ask(client, SENT, "FR", "any")
    assert ask(client, plain, "FR", "any")[0] == "1"
