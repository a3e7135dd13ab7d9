"""NetworkPolicies on a cluster that enforces them: only the callers of a part reach it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.kubectl import Kubectl, wait_for
from tests.e2e.release import NAME, START_S, Release

PORTS = {"preprocess": 9000, "postprocess": 9001, "controller": 9002, "predictor": 8001}
# What each part may reach. (The controller calls a Triton, postprocess asks the controller for contracts.)
MAY = {
    "outsider": {"preprocess"},
    "preprocess": {"preprocess", "postprocess", "controller", "predictor"},
    "postprocess": {"preprocess", "controller"},
    "controller": {"preprocess", "predictor"},
}
CONNECT = """
import socket, sys
for where in sys.argv[1:]:
    host, port = where.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(where)
    except OSError:
        pass
"""


def pod(name: str, tag: str, command: list[str], labels: dict[str, str]) -> dict[str, Any]:
    """Manifest of a pod with preprocess's image that runs a Python program."""
    container = {
        "name": "main",
        "image": f"triptych/preprocess:{tag}",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", *command],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }
    spec = {"containers": [container], "enableServiceLinks": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def waiting(release: Release, component: str) -> dict[str, Any]:
    """Manifest of an idle pod with the labels of a component."""
    labels = (
        {"app.kubernetes.io/name": "triptych", "app.kubernetes.io/instance": NAME} if component != "outsider" else {}
    )
    command = ["-c", "import time; time.sleep(3600)"]
    return pod(f"as-{component}", release.tag, command, labels | {"app.kubernetes.io/component": component})


def running(kubectl: Kubectl, name: str) -> str:
    """Wait until a pod runs, and return its address."""

    def look() -> str | None:
        status = kubectl.get("pod", name)["status"]
        return str(status["podIP"]) if status.get("phase") == "Running" else None

    return wait_for(look, f"pod {name} runs", START_S)


def reached(kubectl: Kubectl, name: str, *where: str) -> set[str]:
    """Addresses that the pod can connect to."""
    return set(kubectl("exec", name, "--", "python", "-c", CONNECT, *where).split())


def skip_unless_enforced(release: Release) -> None:
    """Skip the test if a policy that admits nobody is not enforced."""
    kubectl = release.kubectl
    server = pod("closed", release.tag, ["-m", "http.server", "8080"], {"app": "closed"})
    spec = {"podSelector": {"matchLabels": {"app": "closed"}}, "policyTypes": ["Ingress"], "ingress": []}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "closed"},
        "spec": spec,
    }
    for each in (policy, server, waiting(release, "outsider")):
        kubectl.apply(json.dumps(each))
    address = running(kubectl, "closed")
    running(kubectl, "as-outsider")
    if reached(kubectl, "as-outsider", f"{address}:8080"):
        pytest.skip("this cluster's network does not enforce NetworkPolicies; tests/chart looks at the objects")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_each_part_is_reached_by_its_callers_alone(new_release: Callable[[str, str], Release]) -> None:
    release = new_release("network", "Deployment")
    kubectl = release.kubectl
    skip_unless_enforced(release)
    release.apply()
    for component in PORTS:
        release.wait_until_settled(component)
    addresses = {f"{release.pods(part)[0]['status']['podIP']}:{port}": part for part, port in PORTS.items()}
    for caller, allowed in MAY.items():
        kubectl.apply(json.dumps(waiting(release, caller)))
        running(kubectl, f"as-{caller}")
        found = {addresses[each] for each in reached(kubectl, f"as-{caller}", *addresses)}
        assert found == allowed, caller
    release.uninstall()
