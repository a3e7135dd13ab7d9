"""Models in a real S3 store: the controller reads contracts from it, a Triton the models from a mirrored folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from local.endpoints import free_endpoints
from local.environments import ROOT, ensure
from local.stack import LocalStack
from tests.e2e.bucket import Bucket, new_bucket
from tests.e2e.kubectl import wait_for
from tests.integration.conftest import Caller
from tests.integration.messages import infer_request, noise_picture, objects


@pytest.fixture
def bucket(kubeconfig: Path) -> Iterator[Bucket]:
    with new_bucket(kubeconfig) as bucket:
        yield bucket


class StoreStack(LocalStack):
    """The stack with its models in a store; Triton reads `folder`, which a mirror beside it keeps up to date."""

    def __init__(self, bucket: Bucket, run_folder: Path, folder: Path) -> None:
        self._place = bucket.variables | {
            "CONTROLLER_MODEL_REPOSITORY": bucket.uri,
            "CONTROLLER_MIRROR": str(run_folder / "contracts"),
            "CONTROLLER_UNDECLARED": "highest",
            "CONTROLLER_POLL_S": "0.3",
            "CONTROLLER_FAILURE_TTL_S": "1",  # the folder of Triton may be a moment later than that of the controller
        }
        documents = run_folder / "served-models"
        documents.mkdir(parents=True)
        super().__init__(free_endpoints(), run_folder, ensure("predictor"), folder, documents)

    def _addresses(self) -> dict[str, str]:
        return super()._addresses() | self._place


def mirror(bucket: Bucket, folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "triptych_cli", "mirror", bucket.uri, str(folder), *options]


@pytest.fixture
def stack(bucket: Bucket, tmp_path: Path) -> Iterator[LocalStack]:
    """The running stack, with two countries in the store; the log of the mirror is `mirror.log`."""
    bucket.upload("digits_de")
    bucket.upload("digits_gb")
    folder, environment = tmp_path / "pod" / "models", os.environ | bucket.variables
    subprocess.run(mirror(bucket, folder, "--once"), cwd=ROOT, env=environment, check=True, timeout=60)
    stack = StoreStack(bucket, tmp_path / "run", folder)
    with (tmp_path / "mirror.log").open("wb") as log:
        beside = subprocess.Popen(mirror(bucket, folder, "--every", "0.3s"), cwd=ROOT, env=environment, stderr=log)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
        beside.terminate()
        assert beside.wait(20) == 0


def version_of(stack: LocalStack, model: str) -> str:
    """Version that answers a request to the model now."""
    caller = Caller(stack.address("preprocess"))
    try:
        return str(caller.infer(infer_request(model, {"image": objects(noise_picture())}), 60).model_version)
    finally:
        caller.channel.close()


def index(stack: LocalStack) -> set[tuple[str, str]]:
    """Model and version of each entry in the controller's index."""
    with InferenceServerClient(stack.address("controller")) as client:
        return {(model.name, model.version) for model in client.get_model_repository_index().models}


def until(look: Callable[[], bool], what: str) -> None:
    wait_for(lambda: look() or None, what, 60)


def test_a_version_that_is_uploaded_is_served_without_a_restart(bucket: Bucket, stack: LocalStack) -> None:
    assert index(stack) == {("digits_de", "1"), ("digits_gb", "1")}
    assert {version_of(stack, model) for model in ("digits_de", "digits_gb")} == {"1"}
    bucket.upload("digits_gb", 2)
    until(lambda: ("digits_gb", "2") in index(stack), "the index shows the new version")
    until(lambda: version_of(stack, "digits_gb") == "2", "the new version answers")
    assert version_of(stack, "digits_de") == "1"


def test_an_unreachable_store_removes_nothing(bucket: Bucket, stack: LocalStack, tmp_path: Path) -> None:
    assert version_of(stack, "digits_de") == "1"
    bucket.relay.cut()
    away = f"{bucket.uri}: cannot be read: {bucket.variables['AWS_ENDPOINT_URL']} does not answer"
    logs = (stack.log("controller"), tmp_path / "mirror.log")
    until(lambda: all(away in log.read_text() for log in logs), "both logs say that the store is away")
    assert version_of(stack, "digits_de") == "1"
    assert version_of(stack, "digits_gb") == "1", "was not loaded before, and its files are here"
    bucket.upload("digits_gb", 2)
    bucket.relay.mend()
    until(lambda: version_of(stack, "digits_gb") == "2", "the new version answers")
    for log in logs:
        assert log.read_text().count(away) <= 2, "one line for each cause: connections that broke, and that are refused"


def test_a_first_start_without_the_store_ends_with_the_reason(bucket: Bucket, tmp_path: Path) -> None:
    bucket.relay.cut()
    wanted = f"{bucket.variables['AWS_ENDPOINT_URL']} does not answer: "
    environment = (
        os.environ
        | bucket.variables
        | {
            "CONTROLLER_MODEL_REPOSITORY": bucket.uri,
            "CONTROLLER_MIRROR": str(tmp_path / "contracts"),
            "CONTROLLER_PORT": "0",
            "CONTROLLER_METRICS_PORT": "0",
        }
    )
    for command in ([sys.executable, "-m", "controller"], mirror(bucket, tmp_path / "models", "--once")):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert wanted in done.stderr
        assert "AWS_ENDPOINT_URL" in done.stderr
