"""The chart in a namespace of a strict cluster: PodSecurity restricted, a policy on labels, quotas, a dead proxy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.e2e.kubectl import Kubectl, wait_for
from tests.e2e.release import START_S, Release
from tests.fakes.http_proxy import NO_PROXY, VARIABLES
from tests.integration.load import answers
from tests.integration.messages import infer_request, sales
from tools.chart.program import CHART

SALES = infer_request("sales_forecast_de", sales())
COMPONENTS = ("preprocess", "predictor", "postprocess", "controller", "backend")
PROXY = "http://192.0.2.1:3128"  # an address of documentation, where nobody answers
PROXIES = dict.fromkeys(VARIABLES, PROXY) | {"no_proxy": NO_PROXY, "NO_PROXY": NO_PROXY}
ARBITRARY_USER = 1000660000  # as OpenShift chooses them
QUOTA = {
    "requests.cpu": "2",
    "limits.cpu": "16",
    "requests.memory": "4Gi",
    "limits.memory": "24Gi",
    "requests.ephemeral-storage": "8Gi",
    "limits.ephemeral-storage": "64Gi",
}
# The sums that values-quota.yaml names, the backend, and one check.
SUMS = {"cpu": "950m", "memory": "2560Mi", "ephemeral-storage": "5Gi"}
TIGHT = {f"{kind}.{resource}": text for kind in ("requests", "limits") for resource, text in SUMS.items()}
MOST = {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "2Gi"}
LIMITS = {"limits": [{"type": "Container", "max": MOST, "maxLimitRequestRatio": dict.fromkeys(MOST, "1")}]}
# prometheus-community/helm-charts#4623: every container has probes, except in pods that end by themselves.
ENDING = "object.metadata.labels['app.kubernetes.io/component'] in ['test', 'readiness-hook']"
ALL_PROBED = "object.spec.containers.all(each, has(each.livenessProbe) && has(each.readinessProbe))"
PROBED = f"object.kind != 'Pod' || {ENDING} || {ALL_PROBED}"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Tenant:
    """A release in a namespace with the rules of its cluster."""

    release: Release
    values: dict[str, Any]

    def apply(self, **values: Any) -> None:
        """Install or upgrade with labels and proxies on every pod."""
        proxies = [{"name": name, "value": value} for name, value in PROXIES.items()]
        common = {"commonLabels": {"team": "red"}, "extraEnv": proxies, "runAsUser": ARBITRARY_USER}
        stages: dict[str, Any] = {"gateway": {"enabled": False}, "backend": {"enabled": True}}
        self.release.apply(merged(merged(common | stages, self.values), values))

    def forbid(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        self.release.kubectl.apply(
            json.dumps({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
        )

    def wait_until_it_serves(self, without: frozenset[str] = frozenset()) -> None:
        for component in COMPONENTS:
            self.release.wait_until_settled(component, without=without)
        caller = self.release.service().caller()
        try:
            wait_for(lambda: answers(caller, SALES), "the first answer", START_S)
        finally:
            caller.channel.close()


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Values with others over them, group by group."""
    both = {key: merged(values[key], more[key]) for key in values.keys() & more.keys() if isinstance(more[key], dict)}
    return values | more | both


@pytest.fixture(scope="module", params=["Deployment", "Standard"], ids=["defaults", "values-quota.yaml"])
def tenant(
    request: pytest.FixtureRequest, kubeconfig: Path, new_release: Callable[[str, str], Release]
) -> Iterator[Tenant]:
    """A namespace for the defaults, and one for values-quota.yaml in which limits have to be the requests."""
    release, is_tight = new_release("strict", request.param), request.param == "Standard"
    namespace = release.kubectl.namespace
    release.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    own = YAML(typ="safe", pure=True).load((CHART / "values-quota.yaml").read_text()) if is_tight else {}
    tenant = Tenant(release, own)
    tenant.forbid("ResourceQuota", "team", {"hard": TIGHT if is_tight else QUOTA})
    if is_tight:
        tenant.forbid("LimitRange", "team", LIMITS)
    cluster = Kubectl(kubeconfig, "default")
    cluster.apply("\n---\n".join(map(json.dumps, label_policy(namespace))))
    wait_for(lambda: "team" in refused_service(release.kubectl), "the policy on labels is in force")
    yield tenant
    release.uninstall()
    for each in label_policy(namespace):
        cluster("delete", each["kind"], each["metadata"]["name"])


def label_policy(namespace: str) -> Iterator[dict[str, Any]]:
    """A policy that every object of a tenant has the label `team`, and every container probes, as Kyverno has it."""
    rules = [
        (["", "apps"], ["pods", "services", "configmaps", "serviceaccounts", "deployments", "replicasets"]),
        (
            ["policy", "networking.k8s.io", "autoscaling"],
            ["poddisruptionbudgets", "networkpolicies", "horizontalpodautoscalers"],
        ),
        (["rbac.authorization.k8s.io", "coordination.k8s.io"], ["roles", "rolebindings", "leases"]),
        (["triptych.dev", "serving.kserve.io"], ["servedmodels", "inferenceservices"]),
    ]
    every = {
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "scope": "Namespaced",
    }  # others' IPAddress has no namespace
    matched = [every | {"apiGroups": groups, "resources": resources} for groups, resources in rules]
    labelled = "has(object.metadata.labels) && 'team' in object.metadata.labels"
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": namespace}}
    yield kind | {
        "kind": "ValidatingAdmissionPolicy",
        "spec": {
            "matchConstraints": {"resourceRules": matched},
            "validations": [
                {"expression": labelled, "message": "want the label team"},
                {"expression": PROBED, "message": "want probes in every container"},
            ],
        },
    }
    there = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    yield kind | {
        "kind": "ValidatingAdmissionPolicyBinding",
        "spec": {"policyName": namespace, "validationActions": ["Deny"], "matchResources": there},
    }


def refused_service(kubectl: Kubectl) -> str:
    """Why a Service without labels is refused; '' if it is not."""
    return kubectl.run("create", "service", "clusterip", "probe", "--tcp=80", "--dry-run=server", check=False).stderr


def test_the_chart_runs_and_passes_its_own_checks(tenant: Tenant) -> None:
    """kserve#455, kyverno#1776, harbor-helm#874, openbao-helm#154"""
    tenant.apply()
    tenant.wait_until_it_serves()
    for component in COMPONENTS:
        for pod in tenant.release.pods(component):
            assert pod["metadata"]["labels"]["team"] == "red"
            for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
                given = {each["name"]: each.get("value") for each in container["env"]}
                assert given.items() >= PROXIES.items(), container["name"]
                assert container["securityContext"]["runAsUser"] == ARBITRARY_USER
    assert "backend-forecasts-for-a-valid-token" in tenant.release.helm_test()


def test_calls_by_grpcio_do_not_use_the_proxy_either(tenant: Tenant) -> None:
    """grpc#40366"""
    if tenant.values:
        pytest.skip("the quota has no capacity for an update, and the defaults prove it")
    before = frozenset[str]().union(*map(tenant.release.uids, ("preprocess", "postprocess", "controller")))
    grpcio = {"settings": {"transport": "grpcio"}}
    tenant.apply(preprocess=grpcio, postprocess=grpcio, controller=grpcio)
    tenant.wait_until_it_serves(without=before)
