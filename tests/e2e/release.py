"""A release of the chart in its own namespace: install, upgrade, call and uninstall."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from tests.e2e.kubectl import Kubectl, wait_for
from tests.integration.conftest import INFER, UNBOUNDED, Caller
from tools.chart import program

NAME = "triptych"
STAGES = ("preprocess", "predictor", "postprocess")
START_S = 180.0  # for pods, on a busy machine
GATEWAY = {"name": "kserve-ingress-gateway", "namespace": "kserve"}  # of the development cluster
ENVOY = "gateway.envoyproxy.io/owning-gateway-name=kserve-ingress-gateway"


@dataclass(frozen=True)
class Endpoint:
    """An address of the stack; `authority` is its host at a gateway."""

    name: str
    address: str
    authority: str = ""

    def channel(self) -> Any:
        """A channel with a separate connection."""
        authority = [("grpc.default_authority", self.authority)] if self.authority else []
        return grpc.insecure_channel(self.address, [*UNBOUNDED, ("grpc.use_local_subchannel_pool", 1), *authority])

    def caller(self) -> Caller:
        return EndpointCaller(self)


class EndpointCaller(Caller):
    """A plain gRPC client of an endpoint."""

    def __init__(self, server: Endpoint) -> None:
        self.channel = server.channel()
        self._infer = self.channel.unary_unary(INFER)


@dataclass(frozen=True)
class Release:
    """Helm and kubectl in one namespace, with the images of one tag. `prefix`: its fullnameOverride."""

    kubectl: Kubectl
    tag: str
    mode: str = "Standard"
    name: str = NAME
    prefix: str = ""
    program: str = "helm"  # or helm3, helm4

    @property
    def host(self) -> str:
        return f"{self.kubectl.namespace}.example.com"

    def helm(self, *arguments: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(program.find(self.program)), f"--namespace={self.kubectl.namespace}", *arguments]
        environment = os.environ | {"KUBECONFIG": str(self.kubectl.kubeconfig)}
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=400, env=environment)
        if check and done.returncode:
            raise AssertionError(f"helm {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done

    def values(self, more: dict[str, Any] | None = None) -> dict[str, Any]:
        """Chart values of the release: mode, image tag, gateway, and additions."""
        own: dict[str, Any] = {"mode": self.mode, "tag": self.tag, "fullnameOverride": self.prefix}
        if self.mode != "Knative":
            own["gateway"] = {"enabled": True, "parents": [GATEWAY], "hostnames": [self.host]}
        return own | (more or {})

    def apply(self, values: dict[str, Any] | None = None) -> None:
        """Install, or upgrade to exactly these values, without waiting."""
        given = json.dumps(self.values(values))
        self.helm("upgrade", "--install", self.name, str(program.CHART), "--values=-", given=given)

    def helm_test(self) -> str:
        """Output of `helm test`. The pod of a failed check stays, with its log."""
        return self.helm("test", self.name, "--timeout=5m").stdout

    def uninstall(self) -> None:
        self.helm("uninstall", self.name, "--wait")

    def pods(self, component: str) -> list[dict[str, Any]]:
        labels = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}"
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", "pods", f"--selector={labels}", "--output=json"))[
            "items"
        ]
        return found

    def settled(self, component: str, count: int = 1, without: frozenset[str] = frozenset()) -> bool:
        """Whether there are `count` pods, all ready, none terminating, and none in `without`."""
        pods = self.pods(component)
        return len(pods) == count and all(is_ready(pod) and uid(pod) not in without for pod in pods)

    def wait_until_settled(self, component: str, count: int = 1, without: frozenset[str] = frozenset()) -> None:
        what = f"{count} pods of {component} are ready, and no other is there"
        wait_for(lambda: self.settled(component, count, without), what, START_S)

    def uids(self, component: str) -> frozenset[str]:
        return frozenset(uid(pod) for pod in self.pods(component))

    def service(self) -> Endpoint:
        """Endpoint of preprocess's Service for callers in the cluster."""
        if self.mode != "Knative":
            name = f"{self.prefix}-preprocess" if self.prefix else "preprocess"
            return Endpoint("service", f"{self._cluster_ip(self.kubectl.namespace, name)}:9000")
        internal = self._cluster_ip("kourier-system", "kourier-internal")
        return Endpoint("service", f"{internal}:80", f"preprocess-predictor.{self.kubectl.namespace}.svc.cluster.local")

    def gateway(self) -> Endpoint:
        """Endpoint at the gateway: Knative's, or that of the Gateway API."""
        if self.mode == "Knative":
            host = f"preprocess-predictor.{self.kubectl.namespace}.example.com"
            return Endpoint("gateway", f"{self._cluster_ip('kourier-system', 'kourier')}:80", host)
        gateways = Kubectl(self.kubectl.kubeconfig, "envoy-gateway-system")
        (service,) = json.loads(gateways("get", "services", f"--selector={ENVOY}", "--output=json"))["items"]
        return Endpoint("gateway", f"{service['spec']['clusterIP']}:80", self.host)

    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.kubectl.get("events")["items"]
        return found

    def wait_for_event(self, *words: str) -> str:
        """Wait up to a minute for an event whose message has all these words, and return the message."""

        def reported() -> str | None:
            messages = [event.get("message", "") for event in self.events()]
            return next((each for each in messages if all(word in each for word in words)), None)

        return wait_for(reported, f"an event says {' and '.join(words)}", 60)

    def objects(self) -> list[str]:
        """Names of all objects in the namespace, except events and those that every namespace has."""
        own = ("configmap/kube-root-ca.crt", "serviceaccount/default")
        kinds = self.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
        wanted = [kind for kind in kinds if not kind.startswith("events") and not kind.endswith("metrics.k8s.io")]
        return [
            name
            for name in self.kubectl("get", ",".join(wanted), "--output=name", "--ignore-not-found").split()
            if name not in own
        ]

    def _cluster_ip(self, namespace: str, name: str) -> str:
        return str(Kubectl(self.kubectl.kubeconfig, namespace).get("service", name)["spec"]["clusterIP"])


def uid(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["uid"])


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is ready and not terminating."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def seconds(work: Callable[[], object]) -> float:
    """Duration of a call in seconds."""
    start = time.monotonic()
    work()
    return time.monotonic() - start
