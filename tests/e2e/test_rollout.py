"""`triptych rollout` on objects of a real cluster; the stack itself runs beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local.endpoints import free_endpoints
from local.environments import ROOT, ensure
from local.stack import LocalStack
from tests.e2e.kubectl import Kubectl, wait_for
from tests.integration.conftest import Caller
from tests.integration.load import Load
from tests.integration.messages import infer_request

SCALE = infer_request("scale", {"features": np.ones((1, 4), np.float32)})
OBJECT = """\
apiVersion: triptych.dev/v1alpha1
kind: ServedModel
metadata: {name: scaling}
spec:
  model: scale
  traffic: [{version: 1, percent: 100}]
"""


class ClusterStack(LocalStack):
    """The stack with ServedModels from a namespace in place of a folder."""

    def __init__(self, kubectl: Kubectl, account: Path, run_folder: Path, models: Path) -> None:
        self._place = {
            "CONTROLLER_KUBERNETES": "true",
            "CONTROLLER_NAMESPACE": kubectl.namespace,
            "CONTROLLER_KUBECONFIG": str(account),
        }
        super().__init__(free_endpoints(), run_folder, ensure("predictor"), model_repository=models)

    def _addresses(self) -> dict[str, str]:
        wiring = super()._addresses() | self._place
        del wiring["CONTROLLER_SERVED_MODELS"]
        return wiring


StartStack = Callable[[Path], LocalStack]


@pytest.fixture
def start_stack(kubectl: Kubectl, account: Path, tmp_path: Path) -> Iterator[StartStack]:
    """Starts the stack over a model repository, with one ServedModel about `scale`."""
    made: list[LocalStack] = []

    def start(models: Path) -> LocalStack:
        kubectl.apply(OBJECT)
        made.append(ClusterStack(kubectl, account, tmp_path / "run", models))
        made[-1].start()
        wait_for(lambda: ready(kubectl), "the ServedModel is in force")
        return made[-1]

    yield start
    for stack in made:
        stack.stop()


def ready(kubectl: Kubectl) -> bool:
    status: dict[str, Any] = kubectl.get("servedmodel", "scaling").get("status", {})
    return status.get("summary") == "1:100%"


def roll_out(stack: LocalStack, kubectl: Kubectl, *options: str) -> tuple[int, list[dict[str, Any]]]:
    command = [
        *(sys.executable, "-m", "triptych_cli", "rollout", "scale", "--to", "2", "--yes", "--json"),
        *("--namespace", kubectl.namespace, "--kubeconfig", str(kubectl.kubeconfig)),
        *("--metrics", stack.metrics_url("preprocess"), stack.metrics_url("postprocess")),
        *options,
    ]
    with Load(Caller(stack.address("preprocess")), SCALE, callers=4):
        done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert not done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_served_model_is_promoted_share_by_share(kubectl: Kubectl, start_stack: StartStack) -> None:
    stack = start_stack(ROOT / "tests/data/tiny-models")
    status, lines = roll_out(stack, kubectl, "--steps", "40,100", "--hold", "3s", "--max-latency-ratio", "10")
    assert (status, lines[-1]["outcome"]) == (0, "promoted"), lines
    assert [(line["step"], line["conclusion"]) for line in lines[:-1]] == [(40, "good"), (100, "good")]
    assert kubectl.get("servedmodel", "scaling")["spec"]["traffic"] == [{"version": 2, "percent": 100}]


@pytest.mark.slow
def test_a_missing_version_is_rolled_back_with_the_reason_of_the_status(
    kubectl: Kubectl, start_stack: StartStack, tmp_path: Path
) -> None:
    stack = start_stack(ROOT / "tests/data/tiny-models")
    status, lines = roll_out(stack, kubectl, "--to", "7", "--steps", "40,100", "--hold", "1s")
    assert (status, lines[-1]["outcome"]) == (1, "rolled back"), lines
    assert "version 7" in lines[-1]["reason"]
    assert kubectl.get("servedmodel", "scaling")["spec"]["traffic"] == [{"version": 1, "percent": 100}]
