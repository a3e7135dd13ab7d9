"""Two controllers as `python -m controller` against a cluster, with the rights of their service account."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from local.environments import ROOT
from tests.e2e.kubectl import Kubectl, wait_for
from tests.e2e.test_leader import leader
from tests.e2e.test_served_models import Publish, condition, document, settled
from triptych.protocol import controller_pb2 as cp

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("CONTROLLER_")}

Start = Callable[[str], tuple["subprocess.Popen[bytes]", str]]


@pytest.fixture
def start(kubectl: Kubectl, account: Path, models: Path, tmp_path: Path) -> Iterator[Start]:
    """Start controllers by name; each gives its process and address. No Triton listens at the configured address."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(name: str) -> tuple[subprocess.Popen[bytes], str]:
        port = free_port()
        settings = {
            "CONTROLLER_KUBERNETES": "true",
            "CONTROLLER_NAMESPACE": kubectl.namespace,
            "CONTROLLER_KUBECONFIG": str(account),
            "CONTROLLER_IDENTITY": f"{name}_127.0.0.1:{port}",
            "CONTROLLER_PORT": str(port),
            "CONTROLLER_METRICS_PORT": "0",
            "CONTROLLER_MODEL_REPOSITORY": str(models),
            "CONTROLLER_POLL_S": "0.2",
            "CONTROLLER_TRITON": f"127.0.0.1:{free_port()}",
            "CONTROLLER_UNDECLARED": "none",
        }
        with (tmp_path / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "controller"]
            started.append(subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT | settings, stderr=log))
        return started[-1], f"127.0.0.1:{port}"

    yield begin
    for process in started:
        process.terminate()
    for process in started:
        process.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def shares(address: str) -> dict[str, dict[int, int]]:
    """Traffic that a controller publishes to preprocess: percent by model and version."""
    with grpc.insecure_channel(address) as channel:
        watch: Any = channel.unary_stream(
            "/triptych.v1.Controller/Watch",
            request_serializer=cp.WatchRequest.SerializeToString,
            response_deserializer=cp.CatalogUpdate.FromString,
        )
        update = next(watch(cp.WatchRequest(), timeout=10, wait_for_ready=True))
    return {model.name: {each.version: each.percent for each in model.versions} for model in update.models}


def test_a_controller_that_is_killed_is_followed_by_the_other_and_both_publish_the_same(
    kubectl: Kubectl, start: Start, publish: Publish
) -> None:
    for version in (1, 2):
        publish("sales_de", version)
    kubectl.apply(document({1: 100, 2: 0}))
    first, _ = start("controller-0")
    wait_for(lambda: leader(kubectl) == "controller-0", "the first leads")
    second, address = start("controller-1")
    settled(kubectl, "InForce")
    assert shares(address) == {"sales_de": {1: 100, 2: 0}}
    first.kill()
    first.wait()
    kubectl.apply(document({1: 50, 9: 50}))
    wait_for(lambda: shares(address) == {"sales_de": {1: 100, 2: 0}}, "who does not lead goes on telling")
    wait_for(lambda: leader(kubectl) == "controller-1", "the second leads")
    now = settled(kubectl, "UnknownVersion")
    assert "has no valid version 9; it has 1, 2" in condition(now, "Valid")["message"]
    assert now["traffic"] == [{"version": 1, "percent": 100}, {"version": 2, "percent": 0}]
    assert shares(address) == {"sales_de": {1: 100, 2: 0}}
    second.terminate()
    assert second.wait(30) == 0
    assert leader(kubectl) == ""
