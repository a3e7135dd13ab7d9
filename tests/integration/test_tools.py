"""Standard tools against the stack: `perf_analyzer` and `grpcurl`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from local.environments import ROOT
from local.programs.go_programs import GRPCURL
from local.programs.perf import LOADS, ensure_perf_analyzer
from local.stack import LocalStack
from tests.integration.conftest import Caller
from tests.integration.messages import infer_request, noise_picture, objects, sales


@pytest.mark.parametrize(("stage", "model", "more"), LOADS, ids=lambda value: value if isinstance(value, str) else "")
def test_perf_analyzer_measures_every_stage(
    stack: LocalStack, caller: Caller, stage: str, model: str, more: Sequence[str]
) -> None:
    caller.infer(infer_request("sales_forecast_de", sales()))  # loads it, so that Triton can be asked alone
    tool = ensure_perf_analyzer()
    command = [str(tool.path), "-m", model, "-i", "grpc", "-u", stack.address(stage), *more]
    command += ["--request-count", "50"]  # whether the measurement is a steady one is not asked
    done = subprocess.run(command, env=tool.variables, cwd=ROOT, capture_output=True, text=True, timeout=100)
    report = done.stdout + done.stderr
    assert "Throughput:" in report, report
    assert "Failed to" not in report, report


@pytest.fixture(scope="module")
def grpcurl() -> Callable[..., str]:
    program = GRPCURL.find()
    if program is None:
        pytest.skip("grpcurl is neither on PATH nor in the cache; `make test` builds it where there is Go")

    def run(*words: str) -> str:
        done = subprocess.run([str(program), "-plaintext", *words], capture_output=True, text=True, timeout=30)
        return done.stdout + done.stderr

    return run


OIP = "inference.GRPCInferenceService"
ASKED = json.dumps({"name": "digits_de", "version": "1"})


@pytest.mark.parametrize("stage", ["preprocess", "postprocess", "controller"])
def test_grpcurl_needs_no_proto_file(stack: LocalStack, grpcurl: Callable[..., str], stage: str) -> None:
    listed = grpcurl(stack.address(stage), "list").splitlines()
    assert {OIP, "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"} <= set(listed)
    for name in listed:
        assert "is a service" in grpcurl(stack.address(stage), "describe", name)
    metadata = json.loads(grpcurl("-d", ASKED, stack.address(stage), f"{OIP}/ModelMetadata"))
    assert [output["name"] for output in metadata["outputs"]] == ["label", "score", "class_id"]


def test_grpcurl_gets_an_answer(stack: LocalStack, grpcurl: Callable[..., str]) -> None:
    history = {"name": "history", "datatype": "FP32", "shape": [1, 28], "contents": {"fp32_contents": [100] * 28}}
    price = {"name": "price", "datatype": "FP32", "shape": [1, 7], "contents": {"fp32_contents": [2] * 7}}
    promotion = {"name": "promotion", "datatype": "BOOL", "shape": [1, 7], "contents": {"bool_contents": [False] * 7}}
    request = {
        "model_name": "sales_forecast",
        "parameters": {"route": {"string_param": "DE"}},
        "inputs": [history, price, promotion],
    }
    answer = json.loads(grpcurl("-d", json.dumps(request), stack.address("preprocess"), f"{OIP}/ModelInfer"))
    assert answer["model_name"] == "sales_forecast_de"
    assert [output["name"] for output in answer["outputs"]] == ["units", "total"]


def test_grpcurl_asks_triton_with_what_preprocess_describes(
    stack: LocalStack, caller: Caller, grpcurl: Callable[..., str], tmp_path: Path
) -> None:
    """Triton 2.51 has no reflection; grpcurl takes that of preprocess, which has the same protocol."""
    caller.infer(infer_request("digits_de", {"image": objects(noise_picture())}))  # Triton describes what is loaded
    triton, lent = stack.address("predictor"), str(tmp_path / "oip.protoset")
    assert "server does not support the reflection API" in grpcurl(triton, "list")
    grpcurl("-protoset-out", lent, stack.address("preprocess"), "describe", OIP)
    metadata = json.loads(grpcurl("-protoset", lent, "-d", ASKED, triton, f"{OIP}/ModelMetadata"))
    assert metadata["platform"] == "onnxruntime_onnx"
