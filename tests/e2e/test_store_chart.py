"""The chart with models in an S3 store: new versions without a restart, faults by name, loads by key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tests.e2e.bucket import Bucket, new_bucket
from tests.e2e.kubectl import wait_for
from tests.e2e.release import START_S, Release
from tests.integration.conftest import Caller
from tests.integration.load import answers
from tests.integration.messages import infer_request, noise_picture, objects, outputs_of, sales

SALES = infer_request("sales_forecast_de", sales())
SERVED = {
    "apiVersion": "triptych.dev/v1alpha1",
    "kind": "ServedModel",
    "metadata": {"name": "digits-gb"},
    "spec": {"model": "digits_gb", "traffic": [{"version": 2, "percent": 100}]},
}
HEADER = "triton-grpc-protocol-key"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@dataclass(frozen=True)
class Stocked:
    """A release with its models in a bucket."""

    release: Release
    bucket: Bucket
    caller: Caller

    def apply(self, **changed: Any) -> None:
        """Install or upgrade with these values of `models`."""
        models = {"store": "s3", "uri": self.bucket.uri, "endpoint": self.bucket.endpoint, "secret": "store"}
        values = {"models": models | {"region": "us-east-1", "pollSeconds": 2} | changed}
        self.release.apply(values | {"controller": {"undeclared": "highest"}, "test": {"examples": False}})

    def version_of(self, model: str) -> str:
        """Version that answers a request to the model."""
        request = infer_request(model, {"image": objects(noise_picture())})
        return str(self.caller.infer(request, 60).model_version)


@pytest.fixture(scope="module")
def stocked(kubeconfig: Path, new_release: Callable[[str, str], Release]) -> Iterator[Stocked]:
    """A running release, with two models of one version each in the store."""
    with new_bucket(kubeconfig) as bucket:
        for model in ("sales_forecast_de", "digits_gb"):
            bucket.upload(model)
        release = new_release("store", "Standard")
        keys = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "stringData": bucket.keys}
        release.kubectl.apply(json.dumps(keys))
        first = Stocked(release, bucket, Caller("nowhere:1"))
        first.apply()
        stocked = Stocked(
            release, bucket, wait_for(lambda: _endpoint_caller(release), "the endpoint is there", START_S)
        )
        wait_for(lambda: answers(stocked.caller, SALES), "the first answer", START_S)
        yield stocked
        release.uninstall()


def _endpoint_caller(release: Release) -> Caller | None:
    there = release.kubectl.run("get", "service", "preprocess", check=False)
    return None if there.returncode else release.service().caller()


def test_a_version_that_is_uploaded_is_served_without_a_restart(stocked: Stocked) -> None:
    release = stocked.release
    before = release.uids("predictor") | release.uids("controller")
    assert stocked.version_of("digits_gb") == "1"
    stocked.bucket.upload("digits_gb", 2)
    release.kubectl.apply(json.dumps(SERVED))
    wait_for(lambda: stocked.version_of("digits_gb") == "2", "the new version answers", 60)
    conditions = release.kubectl.get("servedmodel", "digits-gb")["status"]["conditions"]
    assert {each["type"]: each["reason"] for each in conditions}["Ready"] == "InForce"
    assert release.uids("predictor") | release.uids("controller") == before


def test_only_a_holder_of_the_key_loads_models_and_an_upgrade_keeps_the_key(stocked: Stocked) -> None:
    release = stocked.release
    secret = release.kubectl.get("secret", "model-control")["data"]
    stocked.apply(pollSeconds=3)
    wait_for(lambda: release.settled("predictor") and release.settled("controller"), "the upgrade is done", START_S)
    assert release.kubectl.get("secret", "model-control")["data"] == secret
    assert outputs_of(stocked.caller.infer(SALES, 60))["units"]
    (pod,) = release.pods("predictor")
    with grpc.insecure_channel(f"{pod['status']['podIP']}:8001") as channel:
        triton: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert triton.ModelReady(pb.ModelReadyRequest(name="sales_forecast_de", version="1"), timeout=5).ready
        for call, request in (
            (triton.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="sales_forecast_de")),
            (triton.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="digits_gb")),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call(request, timeout=5)
            error: Any = refused.value
            assert HEADER in error.details()
    environment = [each for pod in release.pods("preprocess") for c in pod["spec"]["containers"] for each in c["env"]]
    assert "model-control" not in json.dumps(environment)


def test_a_store_that_cannot_be_reached_is_named_and_what_was_served_goes_on(stocked: Stocked) -> None:
    release = stocked.release
    before = release.uids("predictor")
    stocked.apply(endpoint="http://nowhere.storage:9000")

    def reported(component: str) -> bool:
        return "http://nowhere.storage:9000 does not answer" in json.dumps(release.pods(component))

    wait_for(lambda: reported("predictor") and reported("controller"), "the status of both pods names the store", 60)
    assert before < release.uids("predictor")
    assert outputs_of(stocked.caller.infer(SALES, 60))["units"]
    stocked.apply()
    wait_for(lambda: release.settled("predictor") and release.settled("controller"), "all is well again", START_S)
    assert outputs_of(stocked.caller.infer(SALES, 60))["units"]
