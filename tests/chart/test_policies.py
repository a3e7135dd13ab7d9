"""Demands of a cluster on the objects of all its tenants: labels, users, resources, names of hosts, evictions."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.chart.objects import Object, Objects, Render
from tools.chart.program import CHART, ProgramFailed

MODES = ("Standard", "Knative", "Grouped", "Deployment")
ALL: dict[str, Any] = {
    "backend": {"enabled": True},
    "metrics": {"serviceMonitor": {"enabled": True}, "dashboard": {"enabled": True}},
    "servedModels": [{"model": "digits_gb", "traffic": [{"version": 1, "percent": 100}]}],
    "preprocess": {"autoscaling": {"maxReplicas": 2}},
    "readinessHook": {"enabled": True},
}
JOBS: dict[str, Any] = {
    "jobs": {
        "enabled": True,
        "ledger": {"secret": "ledger"},
        "objects": "s3://bucket/jobs",
        "workers": {"autoscaling": {"maxReplicas": 2}},
    },
    "batches": [
        {"name": "nightly", "schedule": "@daily", "document": {"model": "digits_gb", "read": {"uri": "s3://a"}}}
    ],
}
# Every pod of the chart.
PODS: dict[str, Any] = {"backend": {"enabled": True}, "readinessHook": {"enabled": True}} | JOBS
ROUTED = {"gateway": {"enabled": True, "parents": [{"name": "public"}], "hostnames": ["triptych.example.com"]}}
UNITS = {"m": Decimal("0.001"), "Mi": Decimal(1 << 20), "Gi": Decimal(1 << 30)}


def pod_labels(made: Objects) -> Iterator[tuple[str, dict[str, str]]]:
    """The labels of every pod, by its owner."""
    for each in made.all:
        name = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] == "Deployment":
            yield name, each["spec"]["template"]["metadata"]["labels"]
        elif each["kind"] == "CronJob":
            yield name, each["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
        elif each["kind"] == "InferenceService":
            yield name, each["spec"]["predictor"]["labels"]
        elif each["kind"] == "Pod":
            yield name, each["metadata"]["labels"]


@pytest.mark.parametrize("mode", MODES)
def test_a_common_label_is_on_every_object_and_every_pod(render: Render, mode: str) -> None:
    """kmcp#141, DataDog/helm-charts#785"""
    more = {} if mode == "Knative" else ROUTED
    made = render(ALL | JOBS | more | {"mode": mode, "commonLabels": {"team": "red", "cost-center": "7"}})
    assert len(made.all) > 25
    for each in made.all:
        labels = each["metadata"]["labels"]
        assert (labels["team"], labels["cost-center"]) == ("red", "7"), f"{each['kind']}/{each['metadata']['name']}"
    for name, labels in pod_labels(made):
        assert (labels["team"], labels["cost-center"]) == ("red", "7"), name


def test_a_pods_own_label_wins_over_a_common_one(render: Render) -> None:
    values = {"commonLabels": {"team": "red"}, "podLabels": {"team": "blue"}, "test": {"podLabels": {"team": "test"}}}
    made = render(values | {"mode": "Deployment"})
    labels = {name.partition("/")[0]: labels["team"] for name, labels in pod_labels(made)}
    assert labels == {"Deployment": "blue", "Pod": "test"}
    assert made.one("Deployment", "preprocess")["metadata"]["labels"]["team"] == "red"


@pytest.mark.parametrize("name", ["app.kubernetes.io/name", "app.kubernetes.io/version", "helm.sh/chart"])
def test_a_common_label_that_the_chart_sets_is_refused(render: Render, name: str) -> None:
    with pytest.raises(ProgramFailed, match=f"commonLabels has {name}, which the chart sets itself"):
        render({"commonLabels": {name: "mine"}})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("empty", [None, ""])
def test_without_a_user_the_cluster_chooses_one(render: Render, mode: str, empty: str | None) -> None:
    """harbor-helm#874"""
    made = render(PODS | {"mode": mode, "runAsUser": empty})
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        assert f"{field}:" in render(PODS | {"mode": mode}).text
        assert f"{field}:" not in made.text
    for name, container in made.containers():
        assert container["securityContext"]["runAsNonRoot"] is True, name


@pytest.mark.parametrize("mode", ["Standard", "Grouped", "Deployment"])
def test_every_pod_resolves_names_as_the_values_say(render: Render, mode: str) -> None:
    """CloudPirates-io/helm-charts#1719, aws-load-balancer-controller#4154"""
    values = {
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["10.0.0.53"], "options": [{"name": "ndots", "value": "2"}]},
        "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["store.example.com"]}],
    }
    pods = dict(render(PODS | {"mode": mode} | values).pods())
    assert len(pods) > 5
    for name, pod in pods.items():
        assert {key: pod[key] for key in values} == values, name
    for name, pod in render({"mode": mode}).pods():
        assert not values.keys() & pod.keys(), name


@pytest.mark.parametrize("mode", ["Standard", "Grouped", "Deployment"])
def test_every_pod_has_the_priority(render: Render, mode: str) -> None:
    for name, pod in render(PODS | {"mode": mode, "priorityClassName": "high"}).pods():
        assert pod["priorityClassName"] == "high", name


NO_ISTIO, NO_LINKERD = {"sidecar.istio.io/inject": "false"}, {"linkerd.io/inject": "disabled"}


def no_mesh(made: Objects) -> dict[str, bool]:
    """By the name of a hook's pod, whether Istio and Linkerd leave it alone."""
    pods = {name: each["metadata"] for name, each in made.of("Pod").items()}
    return {
        name: NO_ISTIO.items() <= pod["labels"].items() and NO_LINKERD.items() <= pod["annotations"].items()
        for name, pod in pods.items()
    }


def test_a_mesh_adds_no_sidecar_to_the_readiness_hook(render: Render) -> None:
    """istio#13166, helm#9995: the sidecar never ends. Not the pods of helm test: they call stages, maybe with mTLS."""
    everywhere = {"podLabels": {"sidecar.istio.io/inject": "true"}, "podAnnotations": {"linkerd.io/inject": "enabled"}}
    for more in ({}, everywhere):
        hooks = no_mesh(render({"mode": "Deployment", "readinessHook": {"enabled": True}} | more))
        assert {name for name, alone in hooks.items() if alone} == {"readiness-hook"}
        assert len(hooks) > 1


def test_the_pods_of_hooks_are_in_a_mesh_as_the_values_say(render: Render) -> None:
    asked = {"podLabels": {"sidecar.istio.io/inject": "true"}, "podAnnotations": {"linkerd.io/inject": None}}
    left_alone = {"podLabels": NO_ISTIO, "podAnnotations": NO_LINKERD}
    made = render({"mode": "Deployment", "test": left_alone, "readinessHook": asked | {"enabled": True}})
    hooks = no_mesh(made)
    assert {name for name, alone in hooks.items() if not alone} == {"readiness-hook"}
    metadata = made.one("Pod", "readiness-hook")["metadata"]
    assert metadata["labels"]["sidecar.istio.io/inject"] == "true"
    assert "linkerd.io/inject" not in metadata["annotations"]
    for name, labels in pod_labels(made):
        assert ("sidecar.istio.io/inject" in labels) is name.startswith("Pod/"), name


def pod_annotations(made: Objects) -> Iterator[tuple[Object, dict[str, str]]]:
    for each in made.all:
        if each["kind"] == "Deployment":
            yield each["spec"]["template"]["spec"], each["spec"]["template"]["metadata"]["annotations"]
        elif each["kind"] == "InferenceService":
            yield each["spec"]["predictor"], each["spec"]["predictor"]["annotations"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("store", [{}, {"store": "s3", "uri": "s3://b/m"}, {"store": "pvc", "claim": "models"}])
def test_copies_on_a_node_do_not_keep_it(render: Render, mode: str, store: dict[str, str]) -> None:
    """gatekeeper#2291, autoscaler#5594: a pod with an emptyDir keeps its node unless it names the volume."""
    name = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
    for pod, given in pod_annotations(render({"mode": mode, "models": store, "backend": {"enabled": True}})):
        local = {each["name"] for each in pod.get("volumes", ()) if "emptyDir" in each}
        assert set(filter(None, given.get(name, "").split(","))) == local


def amount(text: str | int) -> Decimal:
    """A Kubernetes quantity as a number."""
    unit = next((unit for unit in UNITS if str(text).endswith(unit)), "")
    return Decimal(str(text).removesuffix(unit)) * UNITS.get(unit, Decimal(1))


@pytest.mark.parametrize("mode", ["Standard", "Deployment"])
@pytest.mark.parametrize("store", [{}, {"store": "s3", "uri": "s3://b/m"}])
def test_the_values_for_a_quota_are_within_their_sums(render: Render, mode: str, store: dict[str, str]) -> None:
    file = CHART / "values-quota.yaml"
    values = YAML(typ="safe", pure=True).load(file.read_text())
    values["models"] |= store
    made = render(values | {"mode": mode, "readinessHook": values["readinessHook"] | {"enabled": True}})
    sums = dict.fromkeys(("cpu", "memory", "ephemeral-storage"), Decimal(0))
    most = {"cpu": Decimal(1), "memory": UNITS["Gi"], "ephemeral-storage": 2 * UNITS["Gi"]}
    for name, container in made.containers():
        resources = container["resources"]
        assert resources["requests"] == resources["limits"], name
        for kind, text in resources["limits"].items():
            assert amount(text) <= most[kind], name
            if not name.startswith("Pod/") and not name.endswith(("/models", "/mirror")):
                sums[kind] += amount(text)
    assert sums == {
        "cpu": Decimal("0.75"),
        "memory": 2 * UNITS["Gi"],
        "ephemeral-storage": Decimal("4.5") * UNITS["Gi"],
    }


def test_jobs_and_batches_too_have_limits_that_are_the_requests_for_a_quota(render: Render) -> None:
    values = YAML(typ="safe", pure=True).load((CHART / "values-quota.yaml").read_text())
    jobs = values["jobs"] | JOBS["jobs"] | {"workers": values["jobs"]["workers"] | {"replicas": 1}}
    resources = {
        container["name"]: container["resources"]
        for _, container in render(values | {"jobs": jobs, "batches": JOBS["batches"]}).containers()
    }
    assert {"jobs", "jobs-worker", "batch"} <= resources.keys()
    assert all(each["requests"] == each["limits"] for each in resources.values()), resources


KEYS = {"env": ("name",), "ports": ("containerPort", "protocol"), "volumeMounts": ("mountPath",)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("more", [{}, {"models": {"store": "s3", "uri": "s3://b/m", "secret": "keys"}}])
def test_no_list_has_a_key_twice_which_server_side_apply_refuses(
    render: Render, mode: str, more: dict[str, Any]
) -> None:
    """helm#31529"""
    made = render(PODS | {"mode": mode, "extraEnv": [{"name": "MINE", "value": "1"}]} | more)
    assert len(list(made.containers())) > 8
    for name, container in made.containers():
        for field, keys in KEYS.items():
            found = [tuple(each.get(key) for key in keys) for each in container.get(field, ())]
            assert len(found) == len(set(found)), f"{name}: {field}"
    for service in made.of("Service").values():
        ports = [each["port"] for each in service["spec"]["ports"]]
        assert len(ports) == len(set(ports))


@pytest.mark.parametrize("mode", MODES)
def test_a_pod_that_is_not_ready_does_not_hold_up_a_drain(render: Render, mode: str) -> None:
    """kedacore/charts#900"""
    budgets = render({"mode": mode}).of("PodDisruptionBudget").values()
    assert budgets
    assert {each["spec"]["unhealthyPodEvictionPolicy"] for each in budgets} == {"AlwaysAllow"}


def test_accounts_leave_pull_secrets_to_the_cluster(render: Render) -> None:
    """stackrox#12124: OpenShift adds one to each account, and a tool that compares would take it away."""
    made = render(PODS | {"mode": "Deployment", "imagePullSecrets": [{"name": "registry"}]})
    assert not [name for name, each in made.of("ServiceAccount").items() if "imagePullSecrets" in each]
