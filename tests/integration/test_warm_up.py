"""Warm-up on a real Triton: a version that cannot answer gets no request, and no request is lost."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.integration.conftest import MakeStack
from tests.integration.load import Load, until
from tests.integration.messages import infer_request
from tests.integration.test_placement import caller_of, describe, document, held
from tests.model_folders import publish
from tests.onnx_files import linear

ANSWERS = """\
import os, signal, sys, time
sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        {body}
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", x)])
"""


def use_python(models: Path, body: str) -> None:
    """Make all versions of sales_de Python models; version 1 is good."""
    config = models / "sales_de" / "config.pbtxt"
    config.write_text(config.read_text().replace("onnxruntime", "python"))
    for version, text in ((1, "pass"), (2, body)):
        (models / "sales_de" / str(version) / "model.py").write_text(ANSWERS.format(body=text))


EXAMPLE = """\
examples:
  - {name: a sum, inputs: {x: [[1, 2]]}, outputs: {y: [[4, 4]]}}
"""


def published(models: Path, first: bytes, second: bytes) -> None:
    for version, data in ((1, first), (2, second)):
        (publish(models, "sales_de", version) / "model.onnx").write_bytes(data)


def refuse_second(make_stack: MakeStack, models: Path) -> str:
    """Give version 2 half of the traffic under load of 60 callers; return the reason why it gets none."""
    stack = make_stack(
        model_repository=models,
        documents={"s.yaml": document("sales_de", v1=50, v2=50)},
        variables={"CONTROLLER_WARM_UP_TIMEOUT_S": "3"},
    )
    caller = caller_of(stack)
    x = np.ones((1, 2), np.float32)
    caller.infer(infer_request("sales_de", {"x": x}))
    with Load(caller, infer_request("sales_de", {"x": x}), callers=8) as load:
        until(lambda: any(each.outcome != "ok" for each in describe(stack).decisions))
        load.wait_for_answers(60)
        until(lambda: held(stack).get(("sales_de", "2")) != "READY")  # a process that was killed takes longer to go
        load.wait_for_answers(60)
    assert load.refusals == []
    code, text = caller.refused(infer_request("sales_de", {"x": x}, version="2"))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert str(models) not in text
    assert "model 'sales_de' could not be loaded: version 2 fails its warm-up" in text
    return text


def test_a_file_of_five_columns_under_four_that_its_header_does_not_show(make_stack: MakeStack, tmp_path: Path) -> None:
    models = tmp_path / "models"
    published(models, linear(2), linear(5, declared="columns"))
    assert "want input 'x' FP32[n,2], sent FP32[1,2], Triton answers: " in refuse_second(make_stack, models)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("assert len(x) == 1, 'made for one row'", "one row is answered, 4 are not"),
        ("x = x.astype(np.float64)", "model output 'y': want FP32[n,2] with n = 1, got FP64[1,2]"),
        ("x = x[:, :1]", "model output 'y': want FP32[n,2] with n = 1, got FP32[1,1]"),
        ("x = x[:1]", "model output 'y': want FP32[n,2] with n = 4, got FP32[1,2]; one row is answered"),
        ("time.sleep(5)", "Triton answers: nothing within 3 s, the limit of a warm-up"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "Triton answers: "),
    ],
)
def test_a_version_whose_answers_are_wrong(make_stack: MakeStack, tmp_path: Path, body: str, sentence: str) -> None:
    models = tmp_path / "models"
    published(models, b"", b"")
    use_python(models, body)
    assert sentence in refuse_second(make_stack, models)


def test_a_version_that_misses_an_example_of_its_contract(make_stack: MakeStack, tmp_path: Path) -> None:
    models = tmp_path / "models"
    published(models, linear(2), linear(2))
    contract = models / "sales_de/2/contract.yaml"
    contract.write_text(contract.read_text() + EXAMPLE)
    text = refuse_second(make_stack, models)
    assert "example 'a sum': output 'y'[0,0]: want 4.0 within 0.001, got 3.0" in text


def test_a_file_whose_header_shows_five_columns_is_named_before_any_load(make_stack: MakeStack, tmp_path: Path) -> None:
    models = tmp_path / "models"
    published(models, linear(2), linear(5))
    stack = make_stack(model_repository=models, documents={"s.yaml": document("sales_de", v1=50, v2=50)})
    request = infer_request("sales_de", {"x": np.ones((1, 2), np.float32)})
    with Load(caller_of(stack), request, callers=8) as load:
        load.wait_for_answers(60)
    assert load.refusals == []
    assert "model.onnx:1: input 'x' has dims [?, 5], but [-1, 2] in config.pbtxt" in stack.log("controller").read_text()
    assert {each.model for each in describe(stack).decisions if each.action == "load"} == {"sales_de version 1"}
