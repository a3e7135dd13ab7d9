"""Options of pods: those at the top reach every pod, those of a stage its own pods alone, in every mode and lane."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.objects import Object, Objects, Render
from tools.chart.program import ProgramFailed

STAGES = ("preprocess", "predictor", "postprocess", "controller", "backend")
GATEWAY = {"enabled": True, "parents": [{"name": "public"}], "hostnames": ["a.example.com"]}
STORE = {"store": "s3", "uri": "s3://bucket/models"}
CANARY: dict[str, Any] = {
    "enabled": True,
    "preprocess": {"podLabels": {"lane": "canary"}},
    "predictor": {"podLabels": {"lane": "canary"}},
    "postprocess": {"podLabels": {"lane": "canary"}},
}
# By name: a mode, or a mode with a canary, with an image or a store of models.
LAYOUTS: dict[str, dict[str, Any]] = {
    "Standard": {"mode": "Standard"},
    "Knative": {"mode": "Knative"},
    "Grouped": {"mode": "Grouped"},
    "Deployment": {"mode": "Deployment"},
    "Standard, store": {"mode": "Standard", "models": STORE},
    "Grouped, store": {"mode": "Grouped", "models": STORE},
    "Standard, canary": {"mode": "Standard", "canary": CANARY, "gateway": GATEWAY},
    "Knative, canary": {"mode": "Knative", "canary": CANARY},
    "Deployment, canary, store": {"mode": "Deployment", "canary": CANARY, "gateway": GATEWAY, "models": STORE},
}


def options(owner: str) -> dict[str, Any]:
    """Every option of pods, marked with its owner: `top` or a stage."""
    return {
        "nodeSelector": {f"node-{owner}": "yes"},
        "affinity": {"nodeAffinity": {owner: []}} if owner == "top" else {"podAffinity": {owner: []}},
        "tolerations": [{"key": f"taint-{owner}", "operator": "Exists"}],
        "podAnnotations": {f"note-{owner}": "yes"},
        "podLabels": {f"label-{owner}": "yes"},
        "extraEnv": [{"name": f"VARIABLE-{owner}", "value": "yes"}],
        "extraVolumes": [{"name": f"volume-{owner}", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": f"volume-{owner}", "mountPath": f"/extra/{owner}"}],
        "serviceAccount": {"annotations": {f"account-{owner}": "yes"}},
    }


def rendered(render: Render, layout: str) -> Objects:
    values = dict(LAYOUTS[layout])
    stages = [stage for stage in STAGES if (layout.split(",")[0], stage) != ("Grouped", "postprocess")]
    own = {stage: options(stage) for stage in stages}
    own["backend"]["enabled"] = True
    shared = {"enabled": True, "ledger": {"secret": "ledger"}, "objects": "s3://bucket/jobs"}
    own["jobs"] = options("jobs") | shared | {"workers": options("jobs-worker") | {"replicas": 1}}
    own["batch"] = options("batch")
    batch = {"name": "nightly", "schedule": "@daily", "document": {"model": "digits_gb", "read": {"uri": "s3://a"}}}
    own["batches"] = [batch]  # type: ignore[assignment]
    return render(values | options("top") | own | {"readinessHook": {"enabled": True}})


def owners(workload: str) -> set[str]:
    """The owners of the options of a pod, by the name of its object."""
    name = workload.rpartition("/")[2].removesuffix("-canary")
    if name.startswith("test-") or name == "readiness-hook":
        return {"top"}
    several = {
        "grouped": {"preprocess", "predictor"},
        "jobs-worker": {"jobs", "jobs-worker"},
        "batch-nightly": {"batch"},
    }
    return {"top"} | several.get(name, {name})


def container_owners(workload: str, container: str) -> set[str]:
    if not workload.endswith("/grouped"):
        return owners(workload)
    return {"top", "preprocess" if container == "kserve-container" else "predictor"}


def marked(prefix: str, names: Any) -> set[str]:
    """The owners of the names that begin with the prefix."""
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def metadata(made: Objects, workload: str) -> Object:
    """The metadata of the pods that an object makes."""
    kind, _, name = workload.partition("/")
    found = made.one(kind, name)
    if kind == "CronJob":
        return dict(found["spec"]["jobTemplate"]["spec"]["template"]["metadata"])
    if kind in ("Deployment", "Job"):
        return dict(found["spec"]["template"]["metadata"])
    return dict(found["spec"]["predictor"] if kind == "InferenceService" else found["metadata"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nodes_are_chosen_for_each_pod(render: Render, layout: str) -> None:
    for workload, pod in rendered(render, layout).pods():
        wanted = owners(workload)
        assert marked("node-", pod["nodeSelector"]) == wanted, workload
        assert marked("taint-", [each["key"] for each in pod["tolerations"]]) == wanted, workload
        assert set(pod["affinity"]["nodeAffinity"]) == {"top"}, workload
        last = wanted & {"predictor", "jobs-worker"} or wanted - {"top"}
        assert set(pod["affinity"].get("podAffinity", ())) == last, workload


@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_and_annotations_are_those_of_each_pod(render: Render, layout: str) -> None:
    made = rendered(render, layout)
    for workload, _ in made.pods():
        found = metadata(made, workload)
        assert marked("label-", found["labels"]) == owners(workload), workload
        assert marked("note-", found["annotations"]) == owners(workload), workload


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_container_has_the_variables_and_mounts_of_its_stage(render: Render, layout: str) -> None:
    made = rendered(render, layout)
    seen = set()
    for workload, pod in made.pods():
        volumes = {each["name"] for each in pod["volumes"]}
        assert marked("volume-", volumes) == owners(workload), workload
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            wanted = container_owners(workload, container["name"])
            assert marked("VARIABLE-", [each["name"] for each in container["env"]]) == wanted, workload
            assert marked("/extra/", [each["mountPath"] for each in container["volumeMounts"]]) == wanted, workload
            assert {each["name"] for each in container["volumeMounts"]} <= volumes, workload
            seen.add(container["name"])
    assert {"models", "test", "backend"} | ({"mirror"} if "store" in layout else set()) <= seen


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_service_account_has_the_annotations_of_its_stage(render: Render, layout: str) -> None:
    accounts = rendered(render, layout).of("ServiceAccount")
    assert {"controller", "backend"} < accounts.keys()
    for name, account in accounts.items():
        assert marked("account-", account["metadata"]["annotations"]) == owners(name), name


def test_the_value_of_a_stage_overrides(render: Render) -> None:
    top = {
        "nodeSelector": {"disk": "any", "zone": "a"},
        "podAnnotations": {"note": "top"},
        "podLabels": {"team": "top"},
        "extraEnv": [{"name": "PROXY", "value": "top"}, {"name": "OTHER", "value": "top"}],
        "extraVolumes": [{"name": "ca", "emptyDir": {}}],
        "affinity": {"nodeAffinity": {"a": []}, "podAffinity": {"b": []}},
    }
    own = {
        "nodeSelector": {"disk": "ssd"},
        "podAnnotations": {"note": "own"},
        "podLabels": {"team": "own"},
        "extraEnv": [{"name": "PROXY", "value": "own"}],
        "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
        "affinity": {"nodeAffinity": {"c": []}},
    }
    made = render(top | {"preprocess": own})
    pod = made.one("InferenceService", "preprocess")["spec"]["predictor"]
    assert pod["nodeSelector"] == {"disk": "ssd", "zone": "a"}
    assert pod["affinity"] == {"nodeAffinity": {"c": []}, "podAffinity": {"b": []}}
    assert (pod["annotations"]["note"], pod["labels"]["team"]) == ("own", "own")
    assert pod["volumes"] == own["extraVolumes"]
    variables = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert (variables["PROXY"], variables["OTHER"]) == ("own", "top")
    assert made.one("InferenceService", "postprocess")["spec"]["predictor"]["nodeSelector"] == top["nodeSelector"]


def test_the_value_of_the_canary_overrides_only_in_the_canary(render: Render) -> None:
    canary = {"enabled": True, "preprocess": {"nodeSelector": {"disk": "new"}, "tolerations": [{"key": "new"}]}}
    stable = {"nodeSelector": {"disk": "old", "zone": "a"}, "tolerations": [{"key": "old"}]}
    made = render({"preprocess": stable, "canary": canary, "gateway": GATEWAY})
    pods = {
        name: made.one("InferenceService", name)["spec"]["predictor"] for name in ("preprocess", "preprocess-canary")
    }
    assert pods["preprocess"]["nodeSelector"] == {"disk": "old", "zone": "a"}
    assert pods["preprocess-canary"]["nodeSelector"] == {"disk": "new", "zone": "a"}
    assert pods["preprocess"]["tolerations"] == [{"key": "old"}]
    assert pods["preprocess-canary"]["tolerations"] == [{"key": "new"}]


def pod_specs(node: Any) -> int:
    """The number of pod specs in a document, wherever they are."""
    if isinstance(node, dict):
        return ("containers" in node) + sum(pod_specs(value) for value in node.values())
    return sum(pod_specs(each) for each in node) if isinstance(node, list) else 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_pod_escapes_these_tests(render: Render, layout: str) -> None:
    made = rendered(render, layout)
    assert pod_specs(made.all) == len(list(made.pods()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_pod_has_the_classes(render: Render, layout: str) -> None:
    classes = {"priorityClassName": "high", "runtimeClassName": "sandbox"}
    values = LAYOUTS[layout] | classes | {"predictor": {"runtimeClassName": "nvidia"}, "backend": {"enabled": True}}
    for workload, pod in render(values).pods():
        knative = (
            layout.startswith("Knative") and workload.startswith("InferenceService/p") and "predictor" not in workload
        )
        runtime = "nvidia" if "predictor" in owners(workload) else "sandbox"
        wanted = {} if knative else {"priorityClassName": "high", "runtimeClassName": runtime}
        assert {name: pod[name] for name in classes if name in pod} == wanted, workload


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_pod_pulls_its_images_with_the_secrets(render: Render, layout: str) -> None:
    secrets = [{"name": "registry"}, {"name": "mirror"}]
    made = render(LAYOUTS[layout] | {"imagePullSecrets": secrets, "backend": {"enabled": True}})
    assert all(pod["imagePullSecrets"] == secrets for _, pod in made.pods())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_and_labels_of_every_object_can_be_overridden(render: Render, layout: str) -> None:
    more = {"backend": {"enabled": True}, "metrics": {"serviceMonitor": {"enabled": True}}}
    before = render(LAYOUTS[layout] | more)
    after = render(LAYOUTS[layout] | more | {"nameOverride": "other", "fullnameOverride": "two"})
    assert {each["metadata"]["name"] for each in after.all} == {
        f"two-{each['metadata']['name']}" for each in before.all
    }
    assert {each["metadata"]["labels"]["app.kubernetes.io/name"] for each in after.all} == {"other"}
    assert 'app.kubernetes.io/name: "triptych"' in before.text
    assert 'app.kubernetes.io/name: "triptych"' not in after.text
    accounts = {name for name, _ in after.of("ServiceAccount").items()}
    assert {pod["serviceAccountName"] for _, pod in after.pods() if "serviceAccountName" in pod} <= accounts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_container_has_the_resources_of_its_value(render: Render, layout: str) -> None:
    owned = [stage for stage in STAGES if (layout, stage) != ("Grouped", "postprocess")]
    values = LAYOUTS[layout] | {stage: {"resources": resources(stage)} for stage in owned}
    values["backend"] = {"enabled": True, "resources": resources("backend")}
    values["test"] = {"resources": resources("test")}
    bring = {"copy": {"resources": resources("copy")}, "mirror": {"resources": resources("mirror")}}
    values["models"] = LAYOUTS[layout].get("models", {}) | bring
    for name, container in render(values).containers():
        _, workload, container_name = name.split("/")
        owner = workload.removesuffix("-canary")
        if workload == "grouped":
            owner = {"kserve-container": "preprocess"}.get(container_name, "predictor")
        if container_name in ("models", "mirror"):
            owner = "mirror" if "store" in layout else "copy"
        if container_name == "test":
            owner = "test"
        assert container["resources"]["limits"]["example.com/owner"] == owner, name


def resources(owner: str) -> dict[str, Any]:
    return {"limits": {"example.com/owner": owner}}


IN_PROCESS = {"mode": "Deployment", "postprocess": {"mode": "InProcess", "nodeSelector": {"a": "b"}}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"preprocess": {"extraEnv": [{"name": "PREPROCESS_CONTROLLER"}]}},
        "extraEnv of preprocess has PREPROCESS_CONTROLLER",
    ),
    ({"extraEnv": [{"name": "POD_IP"}]}, "extraEnv of controller has POD_IP, which the chart sets itself"),
    ({"predictor": {"extraEnv": [{"name": "MODEL_CONTROL_KEY"}]}}, "extraEnv of predictor has MODEL_CONTROL_KEY"),
    ({"podLabels": {"app.kubernetes.io/name": "a"}}, "which the chart sets itself and selects pods by: leave it out"),
    (
        {"predictor": {"extraVolumes": [{"name": "shm"}]}},
        "extraVolumes of predictor has shm, which is a volume of the chart",
    ),
    ({"extraVolumes": [{"name": "smoke-test"}]}, "extraVolumes of test has smoke-test, which is a volume of the chart"),
    (
        {"predictor": {"extraVolumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}},
        "extraVolumeMounts of predictor has /tmp, where the chart mounts a volume of its own",
    ),
    (
        {"preprocess": {"extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}]}},
        "extraVolumeMounts of preprocess mounts ca, which is not a volume of its pod: add it to extraVolumes",
    ),
    (
        {"mode": "Grouped", "predictor": {"extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}]}},
        "extraVolumeMounts of predictor mounts ca, which is not a volume of its pod",
    ),
    (IN_PROCESS, "so postprocess.nodeSelector has no pod: leave it out, or set preprocess.nodeSelector"),
    ({"affinity": {"nodeAfinity": {}}}, "additional properties 'nodeAfinity' not allowed"),
    ({"preprocess": {"affinity": {"nodeAfinity": {}}}}, "additional properties 'nodeAfinity' not allowed"),
    ({"tolerations": [{"keys": "a"}]}, "additional properties 'keys' not allowed"),
    ({"extraEnv": [{"name": "A", "value": 1}]}, "got number, want string"),
    ({"extraVolumeMounts": [{"name": "a"}]}, "missing property 'mountPath'"),
    ({"imagePullSecrets": ["registry"]}, "got string, want object"),
    ({"namePrefix": "two-"}, "additional properties 'namePrefix' not allowed"),
]


@pytest.mark.parametrize(("values", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_contradiction_is_refused_with_a_sentence(render: Render, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ProgramFailed) as refused:
        render(values)
    assert sentence in str(refused.value)
