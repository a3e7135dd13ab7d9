"""The hook that waits after an install or upgrade: what it waits for, what it may read, and what its pod is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.objects import Object, Objects, Render

MODES = ("Standard", "Knative", "Grouped", "Deployment")
HOOK = {"readinessHook": {"enabled": True}}
DIGEST = "triptych.dev/pod-digest"
NAME = "readiness-hook"


def hook(made: Objects, name: str = NAME) -> Object:
    """The container of the hook."""
    (container,) = made.one("Pod", name)["spec"]["containers"]
    found: Object = container
    return found


def test_without_the_value_there_is_no_hook_and_no_digest(render: Render) -> None:
    made = render()
    assert NAME not in made.text
    assert DIGEST not in made.text


@pytest.mark.parametrize("mode", MODES)
def test_the_hook_waits_for_every_workload_and_may_read_these_alone(render: Render, mode: str) -> None:
    made = render(HOOK | {"mode": mode, "fullnameOverride": "two", "backend": {"enabled": True}})
    services, deployments = made.of("InferenceService"), made.of("Deployment")
    wanted = [f"inferenceservice/{name}" for name in services] + [f"deployment/{name}" for name in deployments]
    assert sorted(hook(made, f"two-{NAME}")["args"]) == sorted(wanted)
    rules = {rule["resources"][0]: rule for rule in made.one("Role", f"two-{NAME}")["rules"]}
    knative = [name for name, each in services.items() if "scaleMetric" in each["spec"]["predictor"]]
    by_kserve = {f"{name}-predictor" for name in services if name not in knative}
    assert set(rules["deployments"]["resourceNames"]) == set(deployments) | by_kserve
    assert set(rules.get("inferenceservices", {}).get("resourceNames", ())) == set(services)
    assert set(rules.get("services", {}).get("resourceNames", ())) == {f"{name}-predictor" for name in knative}
    assert rules.pop("pods") == {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    assert all(rule["verbs"] == ["get"] for rule in rules.values())


def test_the_hook_waits_for_the_canary_too(render: Render) -> None:
    canary = {"enabled": True, "postprocess": {"replicas": 1}, "models": {"image": "triptych/models:2"}}
    gateway = {"enabled": True, "parents": [{"name": "public"}], "hostnames": ["triptych.example.com"]}
    made = render(HOOK | {"gateway": gateway, "canary": canary})
    wanted = {f"inferenceservice/{stage}-canary" for stage in ("preprocess", "predictor", "postprocess")}
    assert {*wanted, "deployment/controller-canary"} < set(hook(made)["args"])


@pytest.mark.parametrize("mode", ["Standard", "Knative", "Grouped"])
def test_the_digest_changes_with_the_pod_and_with_nothing_else(render: Render, mode: str) -> None:
    def digests(**values: Any) -> dict[str, str]:
        services = render(HOOK | {"mode": mode} | values).of("InferenceService")
        return {name: each["spec"]["predictor"]["annotations"][DIGEST] for name, each in services.items()}

    before = digests()
    assert digests(preprocess={"replicas": 2}, podAnnotations={}) == before
    for values in ({"tag": "2"}, {"podLabels": {"team": "red"}}, {"podAnnotations": {"restarted": "1"}}):
        changed = digests(**values)
        assert all(changed[name] != digest for name, digest in before.items()), values


def test_the_pod_of_the_hook_is_a_pod_like_the_others(render: Render) -> None:
    more = {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu"}],
        "podLabels": {"team": "red"},
        "podAnnotations": {"note": "a", "helm.sh/hook": "test"},
        "extraEnv": [{"name": "PROXY", "value": "http://proxy"}],
        "extraVolumes": [{"name": "ca", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
        "imagePullSecrets": [{"name": "registry"}],
    }
    made = render(HOOK | more)
    pod, container = made.one("Pod", NAME), hook(made)
    assert pod["metadata"]["labels"]["team"] == "red"
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    assert pod["metadata"]["annotations"]["note"] == "a"
    for key in ("nodeSelector", "tolerations", "imagePullSecrets"):
        assert pod["spec"][key] == more[key], key
    assert pod["spec"]["volumes"] == more["extraVolumes"]
    assert (container["env"], container["volumeMounts"]) == (more["extraEnv"], more["extraVolumeMounts"])
    security = made.container("controller")["securityContext"]
    assert container["securityContext"] == security
    assert container["resources"].keys() == {"requests", "limits"}
    assert (pod["spec"]["automountServiceAccountToken"], pod["spec"]["serviceAccountName"]) == (True, NAME)
    assert made.one("ServiceAccount", NAME)["automountServiceAccountToken"] is False
