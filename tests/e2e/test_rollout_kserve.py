"""`triptych rollout --inferenceservice`: the code of preprocess in KServe's Knative mode.

Preprocess runs in the cluster, in two revisions; all that it calls runs on this machine.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from controller.kubernetes.blocking import BlockingApi
from local.endpoints import free_endpoints
from local.environments import ensure
from local.stack import LocalStack
from tests.e2e.kubectl import Kubectl, wait_for
from tests.integration.conftest import INFER, UNBOUNDED, Caller
from tests.integration.load import Load, answers
from tests.integration.messages import infer_request, sales
from triptych_cli.rollout.metrics.pods import model_metrics

GOOD = infer_request("sales_forecast_de", sales())
SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: entry
  annotations: {{serving.kserve.io/deploymentMode: Knative}}
  labels: {{networking.knative.dev/visibility: cluster-local, networking.kserve.io/visibility: cluster-local}}
spec:
  predictor:
    minReplicas: 1
    labels: {{app.kubernetes.io/component: preprocess}}
    {canary}
    containers:
      - name: kserve-container
        image: triptych/preprocess:{tag}
        imagePullPolicy: IfNotPresent
        ports: [{{name: h2c, containerPort: 9000, protocol: TCP}}]
        env:
          - {{name: PREPROCESS_CONTROLLER, value: "{controller}"}}
          - {{name: PREPROCESS_POSTPROCESS, value: "{postprocess}"}}
          - {{name: PREPROCESS_CONNECTION_AGE_S, value: "0"}}
          - {{name: PREPROCESS_POSTPROCESS_TIMEOUT_S, value: "{timeout_s}"}}
        readinessProbe: {{grpc: {{port: 9000}}, periodSeconds: 2}}
        resources: {{requests: {{cpu: 50m, memory: 100Mi}}, limits: {{cpu: "1", memory: 700Mi}}}}
"""


class ThroughKourier(Caller):
    """A client that reaches a cluster-local Knative Service by its name, over the address of the gateway."""

    def __init__(self, gateway: str, name: str) -> None:
        self.channel: Any = grpc.insecure_channel(f"{gateway}:80", [*UNBOUNDED, ("grpc.default_authority", name)])
        self._infer: Any = self.channel.unary_unary(INFER)


class Entry:
    """The InferenceService, the stack behind it, and a client of it."""

    def __init__(self, kubectl: Kubectl, stack: LocalStack, tag: str) -> None:
        self.kubectl, self._stack, self._tag = kubectl, stack, tag

    def apply(self, canary: str = "", timeout_s: float = 10.0) -> None:
        addresses = {part: self._stack.address(part) for part in ("controller", "postprocess")}
        self.kubectl.apply(SERVICE.format(canary=canary, timeout_s=timeout_s, tag=self._tag, **addresses))

    def status(self) -> dict[str, Any]:
        found = self.kubectl.get("inferenceservice", "entry").get("status", {})
        status: dict[str, Any] = found.get("components", {}).get("predictor", {})
        return status

    def revision(self, number: int) -> str:
        return f"entry-predictor-{number:05}"

    def caller(self) -> Caller:
        gateway = Kubectl(self.kubectl.kubeconfig, "kourier-system").get("service", "kourier-internal")
        name = f"entry-predictor.{self.kubectl.namespace}.svc.cluster.local"
        return ThroughKourier(gateway["spec"]["clusterIP"], name)

    def wait_for_second_revision(self) -> None:
        def split() -> bool:
            return self.status().get("latestReadyRevision") == self.revision(2)

        wait_for(split, "the second revision is ready", 90)

    def roll_out(self, *options: str) -> tuple[int, list[dict[str, Any]]]:
        command = [
            *(sys.executable, "-m", "triptych_cli", "rollout", "--inferenceservice", "entry", "--yes", "--json"),
            *("--namespace", self.kubectl.namespace, "--kubeconfig", str(self.kubectl.kubeconfig)),
            *("--steps", "30,100", "--hold", "4s", "--max-latency-ratio", "20", *options),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert not done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def entry(kubectl: Kubectl, images_tag: str, tmp_path: Path) -> Iterator[Entry]:
    """The service with one revision that answers."""
    kinds = kubectl.run("api-resources", "--api-group=serving.kserve.io", "--output=name", check=False).stdout
    if "inferenceservices" not in kinds:
        pytest.skip("needs KServe with Knative")
    with LocalStack(free_endpoints(_own_address(kubectl)), tmp_path / "run", ensure("predictor")) as stack:
        entry = Entry(kubectl, stack, images_tag)
        entry.apply()
        wait_for(lambda: entry.status().get("latestRolledoutRevision"), "the first revision is rolled out", 90)
        caller = entry.caller()
        wait_for(lambda: answers(caller, GOOD), "the first revision answers")
        yield entry
        kubectl("delete", "inferenceservice", "entry", "--wait=true")


def _own_address(kubectl: Kubectl) -> str:
    """The address of this machine from which it reaches the cluster, and by which the cluster reaches it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        nodes = kubectl.get("nodes")["items"]
        (address,) = [each["address"] for each in nodes[0]["status"]["addresses"] if each["type"] == "InternalIP"]
        probe.connect((address, 9))
        return str(probe.getsockname()[0])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_good_revision_of_a_stage_is_promoted_without_a_lost_request(entry: Entry) -> None:
    entry.apply("canaryTrafficPercent: 0", timeout_s=11)
    entry.wait_for_second_revision()
    with Load(entry.caller(), GOOD, callers=4) as load:
        status, lines = entry.roll_out()
    assert (status, lines[-1]["outcome"]) == (0, "promoted"), lines
    assert lines[-1]["traffic"] == {entry.revision(2): 100}
    assert not load.refusals
    spec = entry.kubectl.get("inferenceservice", "entry")["spec"]["predictor"]
    assert spec["canaryTrafficPercent"] == 100
    assert entry.status()["latestRolledoutRevision"] == entry.revision(2)
    api = BlockingApi.connect(entry.kubectl.kubeconfig)
    pods = model_metrics(api, entry.kubectl.namespace, "", "sales_forecast_de").read().origins
    api.close()
    assert any(pod.startswith(entry.revision(2)) for pod in pods)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_bad_revision_of_a_stage_is_taken_back(entry: Entry) -> None:
    entry.apply("canaryTrafficPercent: 0", timeout_s=0.0001)
    entry.wait_for_second_revision()
    with Load(entry.caller(), GOOD, callers=4) as load:
        status, lines = entry.roll_out("--hold", "60s")
        load.wait_for_answers(50)
    assert (status, lines[-1]["outcome"]) == (1, "rolled back"), lines
    assert "DEADLINE_EXCEEDED" in lines[-1]["reason"]
    assert lines[-1]["traffic"] == {entry.revision(1): 100, entry.revision(2): 0}
    shares = {part["revisionName"]: part.get("percent", 0) for part in entry.status()["traffic"]}
    assert shares[entry.revision(1)] == 100
