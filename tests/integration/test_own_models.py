"""The page "Bring your own model": its commands work as typed, and the answers are those of the libraries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from examples.own_models.__main__ import NAMES
from local.endpoints import Endpoints, free_endpoints
from local.environments import ROOT, ensure
from tests.integration.load import until
from tests.integration.own_models import ADDRESS, Walk, blocks, edited
from triptych.contract import load_contract
from triptych.contract.schema.examples import arrays_of
from triptych.datatypes import Array

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]
COUNT = 20  # answers that are compared, at least


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """All examples of the page, up to the call."""
    ensure("own-models")
    walk = Walk(tmp_path_factory.mktemp("own"))
    with ThreadPoolExecutor(2) as pool:  # the examples need nothing of each other
        printed = dict(zip(walk.labels(), pool.map(walk.follow, walk.labels()), strict=True))
    assert not [label for label, text in printed.items() if "answer" not in text]
    return walk


@pytest.fixture(scope="module")
def endpoints(walk: Walk) -> Iterator[Endpoints]:
    """`make run` with the models of the page, on free ports."""
    endpoints = free_endpoints()
    variables = {**os.environ, **{k: v for each in endpoints.values() for k, v in each.variables().items()}}
    variables["PREPROCESS_PREDICT_TIMEOUT_S"] = "60"  # 20 texts at once on a busy machine
    verify, run = walk.text("sh", "serve").splitlines()
    assert "OK 5 models" in walk.run(verify)
    process = subprocess.Popen(
        ["bash", "-c", f"exec {run.replace('MODELS=', 'env MODELS=')}"],
        cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C stops" in line:
                break
        else:
            raise AssertionError("".join(lines))
        assert "controller: models served: 5, versions: 5\n" in lines, "".join(lines)
        yield endpoints
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=200)


@pytest.fixture(scope="module")
def client(walk: Walk, endpoints: Endpoints) -> Iterator[triton.InferenceServerClient]:
    """A client of the stack, in which all models are loaded: under load, a first call may be told to come again."""
    with triton.InferenceServerClient(endpoints["preprocess"].address) as client:
        for name in NAMES:
            answered = Answered(walk, client, name)
            until(lambda answered=answered: _is_available(answered), 120)  # type: ignore[misc]
        yield client


def _is_available(answered: Answered) -> bool:
    try:
        answered.infer(answered.requests[0])
    except InferenceServerException as error:
        if error.status() != "StatusCode.UNAVAILABLE":
            raise
        return False
    return True


def infer(client: triton.InferenceServerClient, model: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    tensors = [triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)) for name, array in arrays.items()]
    for tensor, array in zip(tensors, arrays.values(), strict=True):
        tensor.set_data_from_numpy(array)
    answer = client.infer(model, tensors, client_timeout=120)
    return {output.name: answer.as_numpy(output.name) for output in answer.get_response().outputs}


class Answered:
    """The requests of an example with the answers of its library, and those of the stack."""

    def __init__(self, walk: Walk, client: triton.InferenceServerClient, name: str) -> None:
        contract = load_contract(walk.folder / "models" / name / "1/contract.yaml")
        document = json.loads((walk.folder / f"{name}.answers.json").read_text())
        self.requests = [arrays_of(contract.inputs, each["inputs"]) for each in document]
        self.wanted: list[dict[str, Any]] = [each["outputs"] for each in document]
        self._client, self._name = client, name

    def infer(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        return infer(self._client, self._name, arrays)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_of_the_folder_is_on_the_page(name: str) -> None:
    assert name in {block.label for block in blocks()}
    code = [block for block in blocks() if block.label == f"{name}.py"]
    source = (ROOT / f"examples/own_models/{name}.py").read_text("utf-8")
    assert all(block.text in source for block in code)


def test_a_table_with_words_and_missing_values(walk: Walk, client: triton.InferenceServerClient) -> None:
    answered = Answered(walk, client, "churn")
    (request,), (wanted,) = answered.requests, answered.wanted
    assert len(request["plan"]) == COUNT
    assert b"" in request["plan"]
    assert np.isnan(request["spend"]).any()
    assert "Zürich".encode() in request["city"]
    answer = answered.infer(request)
    assert [[word.decode()] for word in answer["label"].ravel()] == wanted["label"]
    assert len({*answer["label"].ravel()}) == 2
    np.testing.assert_allclose(answer["probabilities"], wanted["probabilities"], rtol=0, atol=1e-5)


def test_boxes_come_back_in_the_pixels_of_the_picture(walk: Walk, client: triton.InferenceServerClient) -> None:
    answered = Answered(walk, client, "characters")
    assert len(answered.requests) == COUNT
    for request, wanted in zip(answered.requests, answered.wanted, strict=True):
        answer = answered.infer(request)
        found = answer["count"][0]
        assert answer["box"][0, :found].astype(int).tolist() == wanted["box"][0]  # the library cuts fractions off
        assert {*answer["class"][0, :found]} == {b"character"}
    assert sum(len(wanted["box"][0]) for wanted in answered.wanted) > 2 * COUNT


def test_sentences_have_the_embeddings_of_the_library(walk: Walk, client: triton.InferenceServerClient) -> None:
    answered = Answered(walk, client, "sentences")
    assert len(answered.requests) == COUNT
    for request, wanted in zip(answered.requests, answered.wanted, strict=True):
        np.testing.assert_allclose(answered.infer(request)["embedding"], wanted["embedding"], rtol=0, atol=1e-5)
    together = {"text": np.concatenate([request["text"] for request in answered.requests])}
    wanted_rows = [wanted["embedding"][0] for wanted in answered.wanted]
    np.testing.assert_allclose(answered.infer(together)["embedding"], wanted_rows, rtol=0, atol=1e-5)


def test_sound_has_its_state_sent_back_and_forth(walk: Walk, client: triton.InferenceServerClient) -> None:
    answered = Answered(walk, client, "speech")
    assert len(answered.requests) > COUNT
    before: dict[str, Array] = {}
    heard = []
    for request in answered.requests:
        answer = answered.infer({**request, **before})
        heard.append(answer["speech"][0, 0])
        before = {name: answer[name] for name in ("state", "context")}
    wanted = [wanted["speech"][0][0] for wanted in answered.wanted]
    np.testing.assert_allclose(heard, wanted, rtol=0, atol=1e-5)
    assert max(heard) > 0.9
    assert heard[-1] < 0.1
    alone = answered.infer(answered.requests[30])["speech"][0, 0]
    assert abs(alone - wanted[30]) > 0.01  # without the state it is another answer


def test_a_picture_and_a_number_make_one_row(walk: Walk, client: triton.InferenceServerClient) -> None:
    answered = Answered(walk, client, "parts")
    assert len(answered.requests) == COUNT
    for request, wanted in zip(answered.requests, answered.wanted, strict=True):
        np.testing.assert_allclose(answered.infer(request)["diameter_mm"], wanted["diameter_mm"], rtol=1e-5)
    names = ("image", "distance_cm")
    together = {name: np.concatenate([request[name] for request in answered.requests]) for name in names}
    wanted_rows = [wanted["diameter_mm"][0] for wanted in answered.wanted]
    np.testing.assert_allclose(answered.infer(together)["diameter_mm"], wanted_rows, rtol=1e-5)


@pytest.mark.usefixtures("client")
def test_the_calls_of_the_page_print_what_it_shows(walk: Walk, endpoints: Endpoints) -> None:
    code = walk.text("python", "call").replace(ADDRESS, endpoints["preprocess"].address)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == (walk.text("text", "call"), "")


def test_an_edit_of_the_page_that_no_longer_fits_is_a_fault() -> None:
    assert edited("a\nb\nc\n", " a\n-b\n+d\n@@\n-c\n") == "a\nd\n"
    for diff in ("-d\n+e\n", "-a\n"):
        with pytest.raises(ValueError, match="want once in the contract"):
            edited("a\na\n", diff)
