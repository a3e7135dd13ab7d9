"""The chart's routes through Envoy Gateway: long calls and streams are not cut. A stand-in answers for preprocess."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2 as health

from tests.e2e.kubectl import wait_for
from tests.e2e.release import START_S, Endpoint, Release
from tests.integration.conftest import Caller
from tests.integration.messages import infer_request, sales
from tools.chart import program

REQUEST = infer_request("sales_forecast_de", sales())
ENDED = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
CALL_S = 18  # of a call of the stand-in: longer than the default of Envoy
POLICY = "backendtrafficpolicies.gateway.envoyproxy.io"
BOTH = [health.HealthCheckResponse.SERVING, health.HealthCheckResponse.NOT_SERVING]
SCRIPT = Path(__file__).with_name("slow_backend.py")


@pytest.fixture(scope="module")
def release(new_release: Callable[[str, str], Release]) -> Release:
    """A namespace with Service preprocess, behind which the stand-in runs."""
    release = new_release("gateway-timeouts", "Deployment")
    if release.kubectl.run("get", POLICY, check=False).returncode:
        pytest.skip(f"needs {POLICY}, which the cluster does not have")
    release.kubectl("create", "configmap", "script", f"--from-file={SCRIPT}")
    container = {
        "name": "slow",
        "image": f"triptych/preprocess:{release.tag}",
        "command": ["python", "/script/slow_backend.py", str(CALL_S)],
        "volumeMounts": [{"name": "script", "mountPath": "/script"}],
        "readinessProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 1},
    }
    volumes = [{"name": "script", "configMap": {"name": "script"}}]
    port = {"name": "grpc", "port": 9000, "appProtocol": "kubernetes.io/h2c"}
    for kind, spec, labels in (
        ("Pod", {"containers": [container], "volumes": volumes}, {"app": "slow"}),
        ("Service", {"selector": {"app": "slow"}, "ports": [port]}, {}),
    ):
        metadata = {"name": "preprocess", "labels": labels}
        release.kubectl.apply(json.dumps({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}))
    release.kubectl("wait", "pod/preprocess", "--for=condition=Ready", "--timeout=55s")
    return release


def route(release: Release, **gateway: Any) -> Endpoint:
    """Apply the chart's routes alone, and wait until they are programmed."""
    values = release.values()
    values["gateway"] |= gateway
    options = [f"--api-versions={api}" for api in program.APIS]
    chart = ("template", "triptych", str(program.CHART), "--kube-version=1.34", "--show-only=templates/gateway.yaml")
    rendered = release.helm(*chart, *options, "--values=-", given=json.dumps(values)).stdout
    release.kubectl.apply(rendered)
    for kind in ("grpcroutes", POLICY):
        wait_for(partial(accepted, release, kind), f"{kind} are accepted", START_S)
    return release.gateway()


def accepted(release: Release, kind: str) -> bool:
    """Whether the Gateway has taken the newest generation of each object."""
    items = release.kubectl.get(kind)["items"]
    statuses = [each.get("status", {}) for each in items]
    parents = [status.get("parents") or status.get("ancestors") or () for status in statuses]
    return all(
        any(
            condition["type"] == "Accepted"
            and condition["status"] == "True"
            and condition["observedGeneration"] == each["metadata"]["generation"]
            for parent in of
            for condition in parent["conditions"]
        )
        for each, of in zip(items, parents, strict=True)
    )


def watched(server: Endpoint) -> list[int]:
    """States that a health Watch reports until it has reported two, or ends."""
    channel = server.channel()
    watch = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health.HealthCheckRequest.SerializeToString,
        response_deserializer=health.HealthCheckResponse.FromString,
    )
    states: list[int] = []
    with contextlib.suppress(grpc.RpcError):
        for reply in watch(health.HealthCheckRequest(), wait_for_ready=True, timeout=4 * CALL_S):
            states.append(reply.status)
            if len(states) == 2:
                break
    channel.close()
    return states


def answered(caller: Caller) -> str:
    """The model that answers a call whose deadline is far away, or the code of its end."""
    try:
        return str(caller.infer(REQUEST, timeout_s=4 * CALL_S).model_name)
    except grpc.RpcError as error:
        call: Any = error
        return str(call.code().name)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_call_and_a_stream_are_not_cut_at_the_default_of_the_gateway(release: Release) -> None:
    server = route(release)
    wait_for(lambda: watched(server) == BOTH, "the stream lives", START_S)
    assert answered(server.caller()) == "sales_forecast_de"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_timeout_by_value_ends_a_call_and_leaves_a_stream(release: Release) -> None:
    server = route(release, timeoutSeconds=3)
    caller = server.caller()
    wait_for(lambda: answered(caller) in ENDED, "the call is ended", START_S)
    assert watched(server) == BOTH
