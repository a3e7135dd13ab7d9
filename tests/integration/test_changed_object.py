"""A version that changes in a real S3 store: the loaded one is served on, and the change is named everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from local.endpoints import free_endpoints
from local.environments import ROOT, ensure
from local.stack import LocalStack
from tests.integration.conftest import Caller
from tests.integration.messages import infer_request, noise_picture, objects
from tests.integration.s3_gateway import Gateway, s3_gateway

MODELS = ROOT / "model-repository"
ANSWER_LIMIT_S = 90.0


class StoreStack(LocalStack):
    """The stack with its models in a store; Triton reads `folder`, which a mirror beside it keeps up to date."""

    def __init__(self, run_folder: Path, folder: Path) -> None:
        self._place = {
            "CONTROLLER_MODEL_REPOSITORY": "s3://models/eu",
            "CONTROLLER_MIRROR": str(run_folder / "contracts"),
            "CONTROLLER_POLL_S": "0.3",
        }
        documents = run_folder / "served-models"
        documents.mkdir(parents=True)
        super().__init__(free_endpoints(), run_folder, ensure("predictor"), folder, documents)

    def _addresses(self) -> dict[str, str]:
        return super()._addresses() | self._place


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    with s3_gateway(tmp_path / "s3", monkeypatch) as running:
        yield running


def until(look: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + ANSWER_LIMIT_S
    while not look():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_weights_that_are_overwritten_in_the_store_are_never_answered_under_the_old_name(
    gateway: Gateway, tmp_path: Path
) -> None:
    """tensorflow/serving#1822"""
    for file in sorted((MODELS / "digits_de").rglob("*"), reverse=True):
        if file.is_file():
            gateway.store.put(f"eu/digits_de/{file.relative_to(MODELS / 'digits_de').as_posix()}", file.read_bytes())
    gateway.put_raw("eu/digits_de/new\nline")
    folder, log = tmp_path / "pod" / "models", tmp_path / "mirror.log"
    command = [sys.executable, "-m", "triptych_cli", "mirror", "s3://models/eu", str(folder)]
    subprocess.run([*command, "--once"], cwd=ROOT, env=dict(os.environ), check=True, timeout=ANSWER_LIMIT_S)
    stack = StoreStack(tmp_path / "run", folder)
    with log.open("wb") as lines:
        beside = subprocess.Popen([*command, "--every", "0.3s"], cwd=ROOT, env=dict(os.environ), stderr=lines)
    try:
        stack.start()
        caller = Caller(stack.address("preprocess"))
        request = infer_request("digits_de", {"image": objects(noise_picture())})
        before = caller.infer(request, 60)
        published = (folder / "digits_de/1/model.onnx").read_bytes()
        gateway.store.put("eu/digits_de/1/model.onnx", (MODELS / "digits_gb/1/model.onnx").read_bytes())
        until(lambda: "changed after its version was published" in log.read_text(), "the mirror names the change")
        reported = "version 1 differs from what was published, ignored: publish a new version"
        until(lambda: reported in stack.log("controller").read_text(), "the controller names the change")
        assert (folder / "digits_de/1/model.onnx").read_bytes() == published
        after = caller.infer(request, 60)
        assert (after.model_version, after.outputs, after.raw_output_contents) == (
            before.model_version,
            before.outputs,
            before.raw_output_contents,
        )
        with InferenceServerClient(stack.address("controller")) as client:
            reasons = [model.reason for model in client.get_model_repository_index().models]
        assert any(reported in reason for reason in reasons), reasons
        assert "has a character that cannot be shown" in stack.log("controller").read_text()
        caller.channel.close()
    finally:
        stack.stop()
        beside.terminate()
        assert beside.wait(20) == 0
