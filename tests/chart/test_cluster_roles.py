"""manifests/cluster: with it, whoever is `admin` of a namespace may install every render."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chart.leaves import QUEUED, ROUTED
from tests.chart.objects import Object, Objects, Render
from tools.chart.program import find, kustomize
from tools.chart.render import MANIFESTS

ROLES = MANIFESTS / "cluster/clusterroles.yaml"
HELM_VERBS = {"get", "list", "watch", "create", "update", "patch", "delete"}
AGGREGATED = "rbac.authorization.k8s.io/aggregate-to-"
# Groups of Kubernetes itself, whose kinds `admin` covers; cert-manager aggregates its own rights.
COVERED = {"", "apps", "autoscaling", "batch", "coordination.k8s.io", "networking.k8s.io", "policy"}
COVERED |= {"rbac.authorization.k8s.io", "cert-manager.io"}


def rules(*roles: str) -> list[Object]:
    return [
        rule
        for name, role in Objects(ROLES.read_text()).of("ClusterRole").items()
        if not roles or name in roles
        for rule in role["rules"]
    ]


def allowed(group: str, resource: str, *roles: str) -> set[str]:
    """Verbs that the roles add for a resource."""
    found = [rule["verbs"] for rule in rules(*roles) if group in rule["apiGroups"] and resource in rule["resources"]]
    return {verb for verbs in found for verb in verbs}


def renders(render: Render) -> Iterator[Objects]:
    """One render for each mode, with every kind that the chart can make."""
    served = [{"model": "digits_gb", "traffic": [{"version": 1, "percent": 100}]}]
    stages = dict.fromkeys(("preprocess", "predictor"), QUEUED)
    more = {"metrics": {"prometheus": "http://p:9090", "serviceMonitor": {"enabled": True}}, "servedModels": served}
    hook = {"readinessHook": {"enabled": True}, "gateway": ROUTED | {"retries": 2}}
    yield render({"mode": "Standard"} | stages | more | hook)
    yield render({"mode": "Deployment"} | stages | more | hook)
    yield render({"mode": "Knative", "readinessHook": {"enabled": True}})


def test_each_role_is_added_to_the_role_of_its_name() -> None:
    labels = {name: role["metadata"]["labels"] for name, role in Objects(ROLES.read_text()).of("ClusterRole").items()}
    into = {"view": "view", "edit": "edit", "admin": "admin", "install": "admin"}
    assert labels == {f"triptych-{name}": {AGGREGATED + role: "true"} for name, role in into.items()}


def test_an_admin_has_every_right_that_the_chart_grants(render: Render) -> None:
    """Kubernetes refuses a Role with a right that its author does not have."""
    granted = [rule for made in renders(render) for role in made.of("Role").values() for rule in role["rules"]]
    for rule in granted:
        for group in set(rule["apiGroups"]) - COVERED:
            for resource in rule["resources"]:
                assert set(rule["verbs"]) <= allowed(group, resource), (group, resource)
    assert len(granted) > 10


def test_an_admin_may_make_every_kind_of_another_operator(render: Render) -> None:
    kinds = {(each["apiVersion"], each["kind"]) for made in renders(render) for each in made.all}
    foreign = {(version.split("/")[0], kind) for version, kind in kinds if "/" in version} - {
        (group, kind) for group in COVERED for _, kind in kinds
    }
    assert {kind for _, kind in foreign} > {"InferenceService", "GRPCRoute", "ScaledObject", "ServedModel"}
    for group, kind in foreign:
        plural = kind.lower().replace("policy", "policie") + "s"
        assert allowed(group, plural) >= HELM_VERBS, (group, plural)


def test_view_only_reads() -> None:
    assert {verb for rule in rules("triptych-view") for verb in rule["verbs"]} == {"get", "list", "watch"}


@pytest.mark.skipif(find("kubectl") is None, reason="kubectl is not here")
def test_the_folder_has_the_definition_and_the_roles() -> None:
    made = Objects(kustomize(MANIFESTS / "cluster"))
    assert set(made.of("CustomResourceDefinition")) == {"servedmodels.triptych.dev"}
    assert made.of("ClusterRole").keys() == Objects(ROLES.read_text()).of("ClusterRole").keys()
