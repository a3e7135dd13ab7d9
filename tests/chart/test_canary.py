"""The canary lane: off, on, at its limits, and contradictions."""

from __future__ import annotations

from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.chart.objects import Object, Objects, Render, backend
from tools.chart.program import ProgramFailed

GATEWAY = {"enabled": True, "parents": [{"name": "public"}], "hostnames": ["a.example.com"]}
CODE: dict[str, Any] = {
    "enabled": True,
    "percent": 10,
    "preprocess": {"image": "triptych/preprocess:2"},
    "postprocess": {"settings": {"revision": "two"}},
}
ALL: dict[str, Any] = CODE | {
    "predictor": {"replicas": 2},
    "models": {"image": "triptych/models:2"},
    "servedModels": [{"model": "digits_gb", "traffic": [{"version": 2, "percent": 100}]}],
}


def values(canary: dict[str, Any], mode: str = "Standard") -> dict[str, Any]:
    return {"mode": mode, "canary": canary} | ({} if mode == "Knative" else {"gateway": GATEWAY})


def container(made: Objects, name: str) -> Object:
    """First container of a workload by name."""
    (found,) = [pod["containers"][0] for each, pod in made.pods() if each.rpartition("/")[2] == name]
    first: Object = found
    return first


def environment(made: Objects, name: str) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(made, name)["env"] if "value" in each}


def named_canary(made: Objects) -> set[str]:
    return {f"{each['kind']}/{each['metadata']['name']}" for each in made.all if "canary" in each["metadata"]["name"]}


@pytest.mark.parametrize("mode", ["Standard", "Knative", "Grouped", "Deployment"])
def test_a_canary_that_is_off_changes_nothing(render: Render, mode: str) -> None:
    named = {"predictor": {"modelControl": {"secret": "key"}}}  # each render makes a key of its own otherwise
    off = render(values(ALL | {"enabled": False}, mode) | named)
    assert off.text == render(values({}, mode) | named).text


@pytest.mark.parametrize("mode", ["Standard", "Deployment"])
def test_each_lane_calls_within_itself(render: Render, mode: str) -> None:
    made = render(values(ALL, mode))
    for suffix in ("", "-canary"):
        preprocess = environment(made, f"preprocess{suffix}")
        assert preprocess["PREPROCESS_POSTPROCESS"] == f"postprocess{suffix}:9001"
        assert preprocess["PREPROCESS_CONTROLLER"] == f"controller{suffix}:9002"
        assert environment(made, f"postprocess{suffix}")["POSTPROCESS_CONTROLLER"] == f"controller{suffix}:9002"
        assert environment(made, f"controller{suffix}")["CONTROLLER_TRITON"] == f"predictor{suffix}:8001"
        assert made.one("Service", f"predictor{suffix}")["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize(
    ("differs", "own"),
    [
        ({"preprocess": {"replicas": 1}}, {"preprocess"}),
        ({"postprocess": {"replicas": 1}}, {"preprocess", "postprocess"}),
        ({"predictor": {"replicas": 1}}, {"preprocess", "predictor", "controller"}),
        ({"servedModels": ALL["servedModels"]}, {"preprocess", "predictor", "controller"}),
        (ALL, {"preprocess", "predictor", "controller", "postprocess"}),
    ],
)
def test_a_stage_that_does_not_differ_is_the_stable_one(render: Render, differs: dict[str, Any], own: set[str]) -> None:
    made = render(values({"enabled": True} | differs, "Deployment"))
    assert {name for name in made.of("Deployment") if "canary" in name} == {f"{stage}-canary" for stage in own}
    preprocess = environment(made, "preprocess-canary")
    for stage, port in (("postprocess", 9001), ("controller", 9002)):
        name = f"{stage}-canary" if stage in own else stage
        assert preprocess[f"PREPROCESS_{stage.upper()}"] == f"{name}:{port}"


def test_the_canary_inherits_other_values_from_the_stable_lane(render: Render) -> None:
    canary = CODE | {"postprocess": {"settings": {"max_in_flight": 7}}}
    made = render(values(canary) | {"postprocess": {"replicas": 3, "settings": {"log_level": "DEBUG"}}})
    assert made.one("InferenceService", "postprocess-canary")["spec"]["predictor"]["minReplicas"] == 3
    own = environment(made, "postprocess-canary")
    assert (own["POSTPROCESS_LOG_LEVEL"], own["POSTPROCESS_MAX_IN_FLIGHT"]) == ("DEBUG", "7")
    assert "POSTPROCESS_MAX_IN_FLIGHT" not in environment(made, "postprocess")


def test_the_answers_name_the_revisions_of_the_lane(render: Render) -> None:
    made = render(values(CODE) | {"tag": "1"})
    assert environment(made, "preprocess")["PREPROCESS_REVISION"] == "1"
    assert environment(made, "preprocess-canary")["PREPROCESS_REVISION"] == "2"
    assert environment(made, "postprocess-canary")["POSTPROCESS_REVISION"] == "two"


@pytest.mark.parametrize("percent", [0, 10, 100])
@pytest.mark.parametrize("mode", ["Standard", "Deployment"])
def test_the_route_splits_once_by_weight(render: Render, mode: str, percent: int) -> None:
    first, *named = render(values(CODE | {"percent": percent}, mode)).one("GRPCRoute", "preprocess")["spec"]["rules"]
    assert first == {"backendRefs": [backend("preprocess", 100 - percent), backend("preprocess-canary", percent)]}
    chosen = {rule["matches"][0]["headers"][0]["value"]: rule["backendRefs"][0]["name"] for rule in named}
    assert chosen == {"canary": "preprocess-canary", "stable": "preprocess"}


def test_the_rule_of_all_requests_is_the_first_before_during_and_after_a_canary(render: Render) -> None:
    states = [{"enabled": False}, CODE, CODE | {"header": ""}, CODE | {"ending": True}]
    for state in states:
        first = render(values(CODE | state)).one("GRPCRoute", "preprocess")["spec"]["rules"][0]
        assert "matches" not in first
        assert first["backendRefs"][0]["name"] == "preprocess"


def test_without_a_header_no_request_chooses_its_lane(render: Render) -> None:
    rules = render(values(CODE | {"header": ""})).one("GRPCRoute", "preprocess")["spec"]["rules"]
    assert len(rules) == 1
    assert "matches" not in rules[0]


@pytest.mark.parametrize("mode", ["Standard", "Deployment"])
def test_at_its_end_the_pods_stay_and_the_route_goes_to_the_stable_lane(render: Render, mode: str) -> None:
    running = render(values(ALL | {"percent": 100}, mode))
    ending = render(values(ALL | {"percent": 100, "ending": True}, mode))
    assert named_canary(ending) == named_canary(running)
    rules = ending.one("GRPCRoute", "preprocess")["spec"]["rules"]
    assert rules == [{"backendRefs": [backend("preprocess")]}]


def test_in_knative_mode_a_canary_of_preprocess_alone_adds_no_object(render: Render) -> None:
    canary = {"enabled": True, "preprocess": CODE["preprocess"]}
    made = render(values(canary, "Knative"))
    assert not named_canary(made)
    assert environment(made, "preprocess")["PREPROCESS_REVISION"] == "2"


@pytest.mark.parametrize("percent", [0, 10, 100])
def test_in_knative_mode_the_newest_revision_of_preprocess_is_the_canary(render: Render, percent: int) -> None:
    made = render(values(CODE | {"percent": percent}, "Knative"))
    assert set(made.of("InferenceService")) == {"preprocess", "predictor", "postprocess", "postprocess-canary"}
    assert made.one("InferenceService", "preprocess")["spec"]["predictor"]["canaryTrafficPercent"] == percent
    own = environment(made, "preprocess")
    assert own["PREPROCESS_POSTPROCESS"] == "postprocess-canary-predictor.triptych:80"
    assert own["PREPROCESS_REVISION"] == "2"
    assert "canaryTrafficPercent" not in made.one("InferenceService", "postprocess-canary")["spec"]["predictor"]


def test_in_knative_mode_the_end_is_one_more_revision_that_is_the_stable_one(render: Render) -> None:
    stable = render(values({}, "Knative")).one("InferenceService", "preprocess")
    made = render(values(CODE | {"ending": True}, "Knative"))
    ending = made.one("InferenceService", "preprocess")
    assert ending["spec"]["predictor"].pop("canaryTrafficPercent") == 10
    assert ending == stable
    assert "postprocess-canary" in made.of("InferenceService")


def test_the_canary_serves_the_models_of_its_values_and_writes_nothing_to_kubernetes(render: Render) -> None:
    made = render(values(ALL))
    document = YAML(typ="safe", pure=True).load(made.one("ConfigMap", "controller-canary")["data"]["digits_gb.yaml"])
    assert document["spec"] == ALL["servedModels"][0]
    own, stable = environment(made, "controller-canary"), environment(made, "controller")
    assert own["CONTROLLER_SERVED_MODELS"] == "/served-models"
    assert not {"CONTROLLER_KUBERNETES", "CONTROLLER_LEASE"} & own.keys()
    assert stable["CONTROLLER_KUBERNETES"] == "true"
    assert dict(made.pods())["Deployment/controller-canary"]["automountServiceAccountToken"] is False
    assert made.one("Deployment", "controller-canary")["spec"]["replicas"] == 1
    subjects = [each["name"] for binding in made.of("RoleBinding").values() for each in binding["subjects"]]
    assert subjects == ["controller"]


def test_models_of_the_canary_are_seen_by_its_triton_and_its_controller_alone(render: Render) -> None:
    made = render(values(ALL, "Deployment"))
    images = {name: pod["initContainers"][0]["image"] for name, pod in made.pods() if "initContainers" in pod}
    assert {name for name, image in images.items() if image == "triptych/models:2"} == {
        "Deployment/predictor-canary",
        "Deployment/controller-canary",
    }


def test_no_pod_of_one_lane_is_behind_a_service_of_the_other(render: Render) -> None:
    made = render(values(ALL, "Deployment"))
    pods = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in made.of("Deployment").items()}
    assert len(pods) == 8
    for name, service in made.of("Service").items():
        behind = [pod for pod, labels in pods.items() if service["spec"]["selector"].items() <= labels.items()]
        assert behind == [name.replace("-pods", "")]


def test_the_canary_has_the_budgets_and_accounts_of_its_stages(render: Render) -> None:
    made = render(values(ALL))
    own = {f"{stage}-canary" for stage in ("preprocess", "predictor", "postprocess", "controller")}
    assert own < made.of("PodDisruptionBudget").keys()
    assert own < made.of("ServiceAccount").keys()
    for _, pod in made.pods():
        assert pod.get("serviceAccountName", "controller") in made.of("ServiceAccount")


def test_a_triton_is_controlled_by_the_controller_of_its_lane_alone(render: Render) -> None:
    policies = render(values(ALL)).of("NetworkPolicy")

    def callers(name: str) -> set[str]:
        peers = policies[name]["spec"]["ingress"][0]["from"]
        return {each for peer in peers for each in peer["podSelector"]["matchExpressions"][0]["values"]}

    assert callers("predictor-canary") == {"controller-canary", "preprocess-canary"}
    assert callers("predictor") == {"controller", "preprocess", "preprocess-canary"}
    assert callers("postprocess-canary") == {"preprocess-canary", "test"}
    assert callers("controller-canary") == {"preprocess-canary", "postprocess-canary", "grouped", "test"}


def test_a_canary_scales_on_its_own_pods(render: Render) -> None:
    queued = {"autoscaling": {"maxReplicas": 3, "signal": "queue"}}
    made = render(
        values(CODE, "Deployment") | {"preprocess": queued, "metrics": {"prometheus": "http://prometheus:9090"}}
    )
    for name in ("preprocess", "preprocess-canary"):
        spec = made.one("ScaledObject", name)["spec"]
        assert spec["scaleTargetRef"]["name"] == name
        assert f'pod=~"{name}-[a-z0-9]+(-[a-z0-9]+)?"' in spec["triggers"][0]["metadata"]["query"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"mode": "Grouped", "canary": CODE}, "a group has no lanes"),
    ({"gateway": GATEWAY, "canary": {"enabled": True}}, "canary.enabled is true and nothing differs"),
    ({"canary": CODE}, "canary.enabled is true and gateway.enabled is false"),
    (values(CODE | {"models": {"image": "m:2"}, "postprocess": {}}), "the lane needs a postprocess of its own"),
    (values(CODE | {"predictor": {"mode": "Deployment"}}), "canary.predictor.mode: a lane runs in the modes of"),
    (values(CODE | {"percent": 101}), "canary/percent"),
    (values(CODE | {"percent": -1}), "canary/percent"),
    (values(CODE | {"postprocess": {"replica": 1}}), "additional properties 'replica' not allowed"),
    (values(CODE | {"controller": {}}), "additional properties 'controller' not allowed"),
    (values(CODE | {"preprocess": {"shutdown": {"graceSeconds": 99}}}), "canary.preprocess.shutdown: preStopSeconds"),
    (values(CODE | {"preprocess": {"settings": {"port": 1}}}), "canary.preprocess.settings.port: the chart sets this"),
    (values(CODE | {"postprocess": {"replicas": 0}}), "canary.postprocess.replicas is 0, and only Knative mode"),
    (values(CODE | {"servedModels": [{"traffic": []}]}), "missing property 'model'"),
]


@pytest.mark.parametrize(("wrong", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_contradiction_is_refused_with_a_sentence(render: Render, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ProgramFailed) as refused:
        render(wrong)
    assert sentence in str(refused.value)
