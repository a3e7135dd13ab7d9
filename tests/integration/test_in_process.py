"""Postprocess in preprocess's process: the same answers and metrics as with a separate process."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import grpc
import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tritonclient.grpc import service_pb2 as pb

from local.endpoints import free_endpoints
from local.environments import ROOT
from local.stack import IN_PROCESS, LocalStack
from tests.integration.conftest import Caller
from tests.integration.load import until
from tests.integration.messages import infer_request, noise_picture, objects, outputs_of, sales
from tests.integration.test_bad_input import ROWS

MODELS = (
    *(f"model-repository/{name}" for name in ("sales_forecast_de", "sales_forecast_fr", "digits_de", "digits_gb")),
    *(f"tests/data/tiny-models/{name}" for name in ("scale", "pick")),
)
SEPARATE: dict[str, str] = {}

Stacks = dict[str, tuple[LocalStack, Caller]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models; `scale` in version 1 refuses outputs over 1e5."""
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        shutil.copytree(ROOT / name, folder / Path(name).name)
    contract = folder / "scale/1/contract.yaml"
    step = "postprocess:\n  - {op: range, input: output, maximum: 1.0e+5}"
    contract.write_text(contract.read_text().replace("postprocess: []", step))
    publish_words(folder)
    return folder


WORDS = """\
apiVersion: triptych.dev/v1
kind: Contract
family: words
max_rows: 16
inputs:
  - {name: text, datatype: BYTES, shape: [-1]}
  - {name: city, datatype: BYTES, shape: [-1]}
preprocess:
  - {op: tokenize, input: text, file: tokenizer.json, max_length: 4, padding: max_length}
  - {op: cast, input: input_ids, datatype: FP32, output: features}
model:
  inputs: [{name: features, datatype: FP32, shape: [-1, 4]}]
  outputs: [{name: output, datatype: FP32, shape: [-1, 3]}]
postprocess:
  - {op: rename, input: attention_mask, output: mask}
  - {op: ordinal, input: city, file: lists/cities.txt, output: code}
outputs:
  - {name: output, datatype: FP32, shape: [-1, 3]}
  - {name: mask, datatype: INT64, shape: [-1, 4]}
  - {name: code, datatype: INT64, shape: [-1]}
"""


def publish_words(models: Path) -> None:
    """`scale` over the ids of a text, with a file for preprocess and one for postprocess."""
    shutil.copytree(ROOT / "tests/data/tiny-models/scale", models / "words")
    config = models / "words/config.pbtxt"
    config.write_text(config.read_text().replace('"scale"', '"words"'))
    (models / "words/1/contract.yaml").write_text(WORDS)
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "the": 2, "dog": 3, "fox": 4}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(models / "words/1/tokenizer.json"))
    (models / "words/1/lists").mkdir()
    (models / "words/1/lists/cities.txt").write_text("Bonn\nUlm\n")


def words(*texts: bytes, city: bytes = b"Ulm") -> pb.ModelInferRequest:
    return infer_request("words", {"text": objects(*texts), "city": objects(*[city] * len(texts))})


@pytest.fixture(scope="module")
def stacks(models: Path, tmp_path_factory: pytest.TempPathFactory, predictor_python: Path) -> Iterator[Stacks]:
    """The stack with postprocess as a process of its own, and without."""
    made: Stacks = {}
    try:
        for name, variables in (("separate", SEPARATE), ("in-process", IN_PROCESS)):
            folder = tmp_path_factory.mktemp(name)
            (folder / "served").mkdir()
            stack = LocalStack(free_endpoints(), folder, predictor_python, models, folder / "served", variables)
            stack.start()
            made[name] = stack, Caller(stack.address("preprocess"))
        yield made
    finally:
        for stack, caller in made.values():
            caller.channel.close()
            stack.stop()


def wanting(request: pb.ModelInferRequest, *outputs: str) -> pb.ModelInferRequest:
    for name in outputs:
        request.outputs.add(name=name)
    return request


def scale(value: float, rows: int = 1) -> pb.ModelInferRequest:
    return infer_request("scale", {"features": np.full((rows, 4), value, np.float32)}, version="1", id=str(value))


PICTURES = [noise_picture(seed=seed) for seed in range(3)]
GOOD: dict[str, Callable[[], pb.ModelInferRequest]] = {
    "one row": lambda: infer_request("sales_forecast_de", sales(), id="one"),
    "many rows": lambda: infer_request("sales_forecast_fr", sales(256)),
    "one output": lambda: wanting(infer_request("sales_forecast_de", sales(3)), "total"),
    "outputs in another order": lambda: wanting(infer_request("sales_forecast_de", sales(3)), "total", "units"),
    "a picture": lambda: infer_request("digits_de", {"image": objects(PICTURES[0])}),
    "pictures, and a parameter": lambda: infer_request("digits_de", {"image": objects(*PICTURES)}, top_k=10),
    "a family, and a route": lambda: infer_request("digits", {"image": objects(*PICTURES)}, route="DE"),
    "the first version": lambda: infer_request("digits_gb", {"image": objects(*PICTURES)}, version="1"),
    "the second version": lambda: infer_request("digits_gb", {"image": objects(*PICTURES)}, version="2"),
    "no steps": lambda: infer_request("pick", {"index": np.array([[1], [4]])}),
    "within the range": lambda: scale(0.5, rows=16),
    "files, and values of preprocess": lambda: words(b"the dog", b"a fox"),
}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_answers_are_the_same_bytes(stacks: Stacks, make: Callable[[], pb.ModelInferRequest]) -> None:
    answers = {name: caller.infer(make()).SerializeToString(deterministic=True) for name, (_, caller) in stacks.items()}
    assert answers["separate"] == answers["in-process"]
    revisions = pb.ModelInferResponse.FromString(answers["in-process"]).parameters
    assert set(revisions) == {"triptych_preprocess_revision", "triptych_postprocess_revision"}


WRONG: dict[str, Callable[[], pb.ModelInferRequest]] = {
    "over the range after the model": lambda: scale(2e5),
    "the model fails": lambda: infer_request("pick", {"index": np.array([[99]])}),
    "no text": lambda: words(b"the dog", b"\xff"),
    **{name: make for name, (make, _, _) in ROWS.items()},
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_refusals_are_the_same_code_and_sentence(stacks: Stacks, make: Callable[[], pb.ModelInferRequest]) -> None:
    refusals = {}
    for name, (_, caller) in stacks.items():
        code, text = caller.refused(make())
        refusals[name] = code, re.sub(r" \(request [0-9a-f]+-\d+\)$", "", text)
    assert refusals["separate"] == refusals["in-process"]


def test_a_request_that_cannot_be_finished_does_not_fail_those_beside_it(stacks: Stacks) -> None:
    _, caller = stacks["in-process"]

    def outcome(value: float) -> object:
        try:
            return outputs_of(caller.infer(scale(value)))["output"]
        except grpc.RpcError as error:
            code: object = error.code()
            return code

    values = [0.25, 2e5, 0.5, 3e5] * 8
    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(outcome, values))
    expected = [[[value] * 3] if value < 1 else grpc.StatusCode.INTERNAL for value in values]
    assert outcomes == expected


def test_requests_of_one_batch_keep_their_own_values_of_preprocess(stacks: Stacks) -> None:
    asked = [(b"the", b"Bonn", 1, 0), (b"the dog", b"Ulm", 2, 1), (b"the dog fox", b"Bonn", 3, 0)] * 10
    for _, caller in stacks.values():
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda each: outputs_of(caller.infer(words(each[0], city=each[1]))), asked))  # noqa: B023
        assert [(sum(each["mask"][0]), each["code"][0]) for each in answers] == [each[2:] for each in asked]


def test_there_is_no_such_process_and_no_part_waits_for_one(stacks: Stacks) -> None:
    stack, _ = stacks["in-process"]
    assert set(stack.pids()) == {"predictor", "controller", "preprocess"}
    stack.restart_component("preprocess")


def test_its_series_are_on_the_page_of_preprocess_each_metric_once(stacks: Stacks) -> None:
    stack, caller = stacks["in-process"]
    caller.infer(infer_request("sales_forecast_de", sales(2)))
    for version in ("1", "2"):
        caller.infer(infer_request("digits_gb", {"image": objects(PICTURES[0])}, version=version))
    both = {"preprocess", "postprocess"}
    names = ("requests", "request_seconds", "part_seconds", "request_rows", "in_flight", "shed_requests")
    for name in (*names, "version_requests", "version_seconds"):  # an answer counts once it is written
        until(lambda name=name: stages_by_metric(stack)[f"triptych_{name}"] == both)  # type: ignore[misc]


def stages_by_metric(stack: LocalStack) -> dict[str, set[str]]:
    parsed: Any = text_string_to_metric_families  # without types
    accept = {"Accept": "application/openmetrics-text"}
    with urlopen(Request(stack.metrics_url("preprocess"), headers=accept)) as page:
        families = list(parsed(page.read().decode()))  # refuses a metric that comes twice
    return {
        family.name: {sample.labels["stage"] for sample in family.samples if "stage" in sample.labels}
        for family in families
    }
