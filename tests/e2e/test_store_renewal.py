"""The keys of a store are rotated, and its certificate is of a private authority: no pod is restarted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import pytest

from local.environments import ROOT
from tests.e2e import own_store
from tests.e2e.documented_commands import run_block
from tests.e2e.kubectl import wait_for
from tests.e2e.own_store import OwnStore
from tests.e2e.release import START_S, Release
from tests.integration.conftest import Caller
from tests.integration.load import answers
from tests.integration.messages import infer_request, noise_picture, objects, sales

PAGE = ROOT / "docs/guides/operations.md"
SALES = infer_request("sales_forecast_de", sales())
SECRET_S = 150.0  # until kubelet has a new Secret in its volumes
SERVED = {
    "apiVersion": "triptych.dev/v1alpha1",
    "kind": "ServedModel",
    "metadata": {"name": "digits-gb"},
    "spec": {"model": "digits_gb", "traffic": [{"version": 2, "percent": 100}]},
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Stocked:
    """A release whose models are in a store of its own."""

    release: Release
    store: OwnStore
    callers: list[Caller] = field(default_factory=list)

    def apply(self, **changed: object) -> None:
        """Install or upgrade with these values of `models`."""
        models: dict[str, object] = {
            "store": "s3",
            "uri": self.store.uri,
            "endpoint": self.store.endpoint,
            "secret": "model-store",
        }
        models |= {"region": "us-east-1", "pollSeconds": 2, "ca": {"secret": "authorities"}} | changed
        values = {"models": models, "gateway": {"enabled": False}, "test": {"examples": False}}
        self.release.apply(values | {"controller": {"undeclared": "highest"}})

    def put_secret(self, name: str, data: dict[str, str]) -> None:
        made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        self.release.kubectl.apply(json.dumps(made))

    @property
    def caller(self) -> Caller:
        if not self.callers:
            self.callers.append(self.release.service().caller())
        return self.callers[0]

    def version_of(self, model: str) -> str:
        request = infer_request(model, {"image": objects(noise_picture())})
        return str(self.caller.infer(request, 60).model_version)

    def metric(self, name: str) -> float:
        """A metric of the controller."""
        (pod,) = self.release.pods("controller")
        with urlopen(f"http://{pod['status']['podIP']}:9102/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def logs(self, component: str, container: str) -> str:
        (pod,) = self.release.pods(component)
        return self.release.kubectl("logs", pod["metadata"]["name"], f"--container={container}")


@pytest.fixture(scope="module")
def stocked(kubeconfig: Path, new_release: Callable[[str, str], Release]) -> Iterator[Stocked]:
    """A running release with two models of one version each in the store."""
    release = new_release("renewal", "Deployment")
    stocked = Stocked(release, own_store.start(release.kubectl))
    for model in ("sales_forecast_de", "digits_gb"):
        stocked.store.upload(model)
    stocked.put_secret("model-store", stocked.store.create_account("old"))
    stocked.put_secret("authorities", {"ca.crt": stocked.store.authority.cert_pem.bytes().decode()})
    stocked.apply()
    for component in ("predictor", "controller", "preprocess"):
        release.wait_until_settled(component)
    wait_for(lambda: answers(stocked.caller, SALES), "the first answer", START_S)
    yield stocked
    release.uninstall()


def test_keys_that_were_rotated_are_taken_up_without_a_restart(stocked: Stocked) -> None:
    release = stocked.release
    before = release.uids("predictor") | release.uids("controller")
    assert (stocked.metric("triptych_store_up"), stocked.version_of("digits_gb")) == (1, "1")
    stocked.store.delete_account("old")
    stocked.store.upload("digits_gb", 2)
    release.kubectl.apply(json.dumps(SERVED))
    wait_for(lambda: stocked.metric("triptych_store_up") == 0, "the metric says that the store refuses", 60)
    refused = "refuses a list of what is there: 403"
    assert refused in release.kubectl("exec", "deployment/controller", "--", "triptych", "top", "--once")
    wait_for(lambda: refused in stocked.logs("predictor", "mirror"), "the mirror says so too", 60)

    def reported() -> bool:
        status = release.kubectl.get("servedmodel", "digits-gb").get("status", {})
        return refused in json.dumps(status.get("conditions", []))

    wait_for(reported, "the condition of the ServedModel says why the version is unknown", 60)
    assert stocked.version_of("digits_gb") == "1", "what is loaded is served"
    keys = stocked.store.create_account("new")
    account, secret = keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]
    run_block(release, PAGE, "rotate-store-keys", ACCESS_KEY=account, SECRET_KEY=secret)
    wait_for(lambda: stocked.version_of("digits_gb") == "2", "the version that came meanwhile answers", SECRET_S)
    assert stocked.metric("triptych_store_up") == 1
    assert release.uids("predictor") | release.uids("controller") == before
    restarts = [each["restartCount"] for pod in release.pods("predictor") for each in statuses(pod)]
    assert set(restarts) == {0}


def statuses(pod: dict[str, dict[str, list[dict[str, int]]]]) -> list[dict[str, int]]:
    return [*pod["status"]["containerStatuses"], *pod["status"]["initContainerStatuses"][1:]]


def test_an_authority_that_is_not_named_is_the_fault_that_is_reported(stocked: Stocked) -> None:
    """kserve#3171"""
    release = stocked.release
    stocked.apply(ca={})

    def reported(component: str) -> bool:
        return "shows a certificate that is refused" in json.dumps(release.pods(component))

    wait_for(lambda: reported("predictor") and reported("controller"), "the status of both pods names it", START_S)
    assert answers(stocked.caller, SALES), "the old pods serve"
    release.kubectl("create", "configmap", "bundle", f"--from-literal=ca-bundle.crt={pem(stocked)}")
    stocked.apply(ca={"configMap": "bundle", "key": "ca-bundle.crt"})
    wait_for(lambda: release.settled("predictor") and release.settled("controller"), "all is well again", START_S)
    wait_for(lambda: answers(stocked.caller, SALES), "an answer", START_S)


def pem(stocked: Stocked) -> str:
    return stocked.store.authority.cert_pem.bytes().decode()
