"""Each option on, off and at its limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controller.catalog.served_model import Document, read_documents
from tests.chart.objects import Render

PROMETHEUS = {"prometheus": "http://prometheus:9090"}


def scaled(signal: str = "", **more: Any) -> dict[str, Any]:
    return {"replicas": 1, "autoscaling": {"maxReplicas": 4, "signal": signal, **more}}


def test_without_autoscaling_replicas_are_fixed_and_kserve_makes_no_autoscaler(render: Render) -> None:
    made = render({"preprocess": {"replicas": 3, "autoscaling": {"maxReplicas": 3}}})
    assert not made.of("HorizontalPodAutoscaler")
    isvc = made.one("InferenceService", "preprocess")
    assert isvc["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"
    assert isvc["spec"]["predictor"]["minReplicas"] == 3


def test_one_more_than_the_replicas_makes_an_hpa_on_the_deployment_of_kserve(render: Render) -> None:
    made = render({"preprocess": scaled(cpuPercent=55, scaleDownAfterSeconds=9)})
    spec = made.one("HorizontalPodAutoscaler", "preprocess")["spec"]
    assert spec["scaleTargetRef"]["name"] == "preprocess-predictor"
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 4)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 55
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 9
    annotations = made.one("InferenceService", "preprocess")["metadata"]["annotations"]
    assert annotations["serving.kserve.io/autoscalerClass"] == "external"


def test_in_deployment_mode_the_hpa_sets_the_replicas_alone(render: Render) -> None:
    made = render({"mode": "Deployment", "preprocess": scaled()})
    assert made.one("HorizontalPodAutoscaler", "preprocess")["spec"]["scaleTargetRef"]["name"] == "preprocess"
    assert "replicas" not in made.one("Deployment", "preprocess")["spec"]
    assert made.one("Deployment", "postprocess")["spec"]["replicas"] == 1


def test_in_grouped_mode_preprocess_scales_the_group(render: Render) -> None:
    made = render({"mode": "Grouped", "preprocess": scaled()})
    assert made.one("HorizontalPodAutoscaler", "grouped")["spec"]["scaleTargetRef"]["name"] == "grouped-predictor"


@pytest.mark.parametrize(
    ("stage", "metric"),
    [("preprocess", "triptych_in_flight"), ("predictor", "nv_inference_queue_duration_us")],
)
def test_the_signal_queue_makes_keda_ask_prometheus(render: Render, stage: str, metric: str) -> None:
    made = render({stage: scaled("queue"), "metrics": PROMETHEUS | {"window": "5m"}})
    spec = made.one("ScaledObject", stage)["spec"]
    assert spec["scaleTargetRef"]["name"] == f"{stage}-predictor"
    trigger = spec["triggers"][0]
    assert metric in trigger["metadata"]["query"]
    assert 'namespace="triptych"' in trigger["metadata"]["query"]
    assert "}[5m]" in trigger["metadata"]["query"]
    assert ('part="queue"' in trigger["metadata"]["query"]) == (stage == "predictor")  # requests wait before Triton
    assert trigger["metadata"]["serverAddress"] == "http://prometheus:9090"
    assert not made.of("HorizontalPodAutoscaler")


def test_in_knative_mode_a_stage_goes_to_zero_by_concurrency(render: Render) -> None:
    made = render(
        {"mode": "Knative", "preprocess": {"replicas": 0, "autoscaling": {"maxReplicas": 2, "concurrency": 5}}}
    )
    spec = made.one("InferenceService", "preprocess")["spec"]["predictor"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (0, 2)
    assert (spec["scaleMetric"], spec["scaleTarget"]) == ("concurrency", 5)
    assert not made.of("HorizontalPodAutoscaler")


@pytest.mark.parametrize(("value", "budgets"), [("", 3), (0, 4), (1, 4), ("50%", 4)])
def test_a_disruption_budget_is_made_unless_it_is_empty(render: Render, value: Any, budgets: int) -> None:
    made = render({"preprocess": {"maxUnavailable": value}})
    assert len(made.of("PodDisruptionBudget")) == budgets
    if value != "":
        assert made.one("PodDisruptionBudget", "preprocess")["spec"]["maxUnavailable"] == value


def test_network_policies_open_preprocess_alone(render: Render) -> None:
    policies = render().of("NetworkPolicy")
    assert set(policies) == {"preprocess", "predictor", "postprocess", "controller"}
    callers = {name: _callers(policy, port) for name, policy, port in _serving_ports(policies)}
    assert callers == {
        "preprocess": "anyone",
        "predictor": {"controller", "preprocess"},
        "postprocess": {"preprocess", "test"},
        "controller": {"preprocess", "postprocess", "grouped", "test"},
    }


def _serving_ports(policies: dict[str, Any]) -> list[tuple[str, Any, int]]:
    ports = {"preprocess": 9000, "predictor": 8001, "postprocess": 9001, "controller": 9002}
    return [(name, policies[name], port) for name, port in ports.items()]


def _callers(policy: Any, port: int) -> set[str] | str:
    rules = [rule for rule in policy["spec"]["ingress"] if port in [each["port"] for each in rule["ports"]]]
    assert len(rules) == 1
    if "from" not in rules[0]:
        return "anyone"
    assert all(
        each["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "triptych" for each in rules[0]["from"]
    )
    return {name for each in rules[0]["from"] for name in each["podSelector"]["matchExpressions"][0]["values"]}


def test_callers_of_preprocess_can_be_named_and_helm_test_stays_one(render: Render) -> None:
    named = {"namespaceSelector": {"matchLabels": {"team": "shop"}}}
    rule = render({"networkPolicy": {"callers": [named]}}).one("NetworkPolicy", "preprocess")["spec"]["ingress"][0]
    assert rule["from"][0] == named
    assert rule["from"][1]["podSelector"]["matchExpressions"][0]["values"] == ["test"]


def test_network_policies_can_be_left_out(render: Render) -> None:
    assert not render({"networkPolicy": {"enabled": False}}).of("NetworkPolicy")


def test_the_prometheus_operator_finds_each_stage_on_a_port_that_is_there(render: Render) -> None:
    assert not render().of("ServiceMonitor")
    made = render({"metrics": {"serviceMonitor": {"enabled": True}}})
    assert set(made.of("ServiceMonitor")) == {"preprocess", "predictor", "postprocess", "controller"}
    for monitor in made.of("ServiceMonitor").values():
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        ports = [
            port["name"]
            for service in made.of("Service").values()
            if wanted <= service["metadata"]["labels"].items()
            for port in service["spec"]["ports"]
        ]
        assert ports.count(monitor["spec"]["endpoints"][0]["port"]) == 1


def test_series_name_their_release_for_the_dashboard(render: Render) -> None:
    for monitor in render({"metrics": {"serviceMonitor": {"enabled": True}}}).of("ServiceMonitor").values():
        assert monitor["spec"]["podTargetLabels"] == ["app.kubernetes.io/instance"]


def test_the_dashboard_is_a_configmap_that_grafana_finds(render: Render) -> None:
    assert "dashboard" not in render().of("ConfigMap")
    labels = render({"metrics": {"dashboard": {"enabled": True}}}).one("ConfigMap", "dashboard")["metadata"]["labels"]
    assert labels["grafana_dashboard"] == "1"


def test_models_in_a_volume_are_mounted_and_not_copied(render: Render) -> None:
    made = render({"models": {"store": "pvc", "claim": "models", "path": "prod"}})
    for name, pod in made.pods():
        assert "initContainers" not in pod, name
    for stage in ("predictor", "controller"):
        mount = next(each for each in made.container(stage)["volumeMounts"] if each["mountPath"] == "/models")
        assert mount == {"name": "models", "mountPath": "/models", "readOnly": True, "subPath": "prod"}


@pytest.mark.parametrize("mode", ["Standard", "Knative", "Grouped", "Deployment"])
def test_only_a_holder_of_the_key_loads_models_and_only_the_controller_has_it(render: Render, mode: str) -> None:
    made = render({"mode": mode})
    assert made.one("Secret", "model-control")["data"] == {"key": "bWFkZSBieSB0aGUgY2hhcnQ="}
    options = [each for each in made.container("predictor")["args"] if each.startswith("--grpc-restricted")]
    assert options == [
        "--grpc-restricted-protocol=model-repository,shared-memory,trace,logging:key=$(MODEL_CONTROL_KEY)"
    ]
    key = {"valueFrom": {"secretKeyRef": {"name": "model-control", "key": "key"}}}
    assert {"name": "MODEL_CONTROL_KEY"} | key in made.container("predictor")["env"]
    assert {"name": "CONTROLLER_TRITON_KEY"} | key in made.container("controller")["env"]
    have = [name for name, each in made.containers() if "model-control" in str(each)]
    assert len(have) == 2, "Triton and the controller"
    assert "model-control" not in str(made.container("preprocess"))


@pytest.mark.parametrize("mode", ["Standard", "Grouped", "Deployment"])
def test_rest_is_a_second_port_of_preprocess_for_the_same_callers(render: Render, mode: str) -> None:
    callers = [{"podSelector": {"matchLabels": {"app": "shop"}}}]
    assert "8080" not in render({"mode": mode, "networkPolicy": {"enabled": True}}).text
    made = render({"mode": mode, "networkPolicy": {"enabled": True, "callers": callers}, "preprocess": {"rest": True}})
    assert made.environment("preprocess")["PREPROCESS_REST_PORT"] == "8080"
    assert {"name": "http", "containerPort": 8080, "protocol": "TCP"} in made.container("preprocess")["ports"]
    for service in ("preprocess", "preprocess-pods"):
        assert {"name": "http", "port": 8080, "targetPort": 8080} in made.one("Service", service)["spec"]["ports"]
    policy = made.one("NetworkPolicy", "grouped" if mode == "Grouped" else "preprocess")["spec"]["ingress"][0]
    assert [each["port"] for each in policy["ports"]] == [9000, 8080]
    assert callers[0] in policy["from"]


@pytest.mark.parametrize("mode", ["Standard", "Knative", "Grouped", "Deployment"])
def test_the_page_is_off_and_reached_by_port_forward_alone(render: Render, mode: str) -> None:
    assert "PAGE" not in render({"mode": mode}).text
    callers = [] if mode == "Knative" else [{"podSelector": {"matchLabels": {"app": "shop"}}}]
    made = render({"mode": mode, "networkPolicy": {"enabled": True, "callers": callers}, "controller": {"page": True}})
    environment = made.environment("controller")
    assert environment["CONTROLLER_PAGE_PORT"] == "9202"
    assert environment["CONTROLLER_PAGE_PREPROCESS"].startswith("preprocess")
    assert "CONTROLLER_PAGE_HOST" not in environment
    assert all(each["containerPort"] != 9202 for each in made.container("controller")["ports"])
    assert all(port["port"] != 9202 for service in made.of("Service").values() for port in service["spec"]["ports"])
    if callers:
        policy = made.one("NetworkPolicy", "grouped" if mode == "Grouped" else "preprocess")["spec"]["ingress"][0]
        assert "controller" in str(policy["from"])


def test_the_key_can_be_given_and_left_out(render: Render) -> None:
    given = render({"predictor": {"modelControl": {"secret": "mine"}}})
    assert not given.of("Secret")
    assert "mine" in str(given.container("controller")["env"])
    open_to_all = render({"predictor": {"modelControl": {"restricted": False}}})
    assert not open_to_all.of("Secret")
    assert "restricted-protocol" not in open_to_all.text
    assert "TRITON_KEY" not in open_to_all.text
    assert "MODEL_CONTROL_KEY" not in open_to_all.text


def test_served_models_of_the_values_are_objects_that_the_controller_takes(render: Render, tmp_path: Path) -> None:
    traffic = [{"version": 1, "percent": 95}, {"version": 20261130, "percent": 5}]
    spec = {"model": "digits_gb", "traffic": traffic, "aliases": {"production": 1, "next": 20261130}}
    made = render({"servedModels": [spec]}).one("ServedModel", "digits-gb")
    assert made["spec"] == spec
    file = tmp_path / "digits_gb.json"
    file.write_text(json.dumps(made))
    (document,) = read_documents(file)
    assert isinstance(document, Document), document


def test_the_version_of_a_model_without_a_servedmodel_can_be_chosen(render: Render) -> None:
    name = "CONTROLLER_UNDECLARED"
    assert render().environment("controller")[name] == "lowest"
    assert render({"controller": {"undeclared": "none"}}).environment("controller")[name] == "none"


def test_in_grouped_mode_preprocess_knows_the_triton_of_its_own_pod(render: Render) -> None:
    made = render({"mode": "Grouped"})
    assert made.environment("preprocess")["PREPROCESS_OWN_PREDICTOR"] == "$(POD_IP):8001"
    names = [each["name"] for each in made.container("preprocess")["env"]]
    assert names.index("POD_IP") < names.index("PREPROCESS_OWN_PREDICTOR"), "named before it is used"
    assert "PREPROCESS_OWN_PREDICTOR" not in render().environment("preprocess")


def test_a_gpu_is_a_limit_of_triton_beside_the_others(render: Render) -> None:
    image = "nvcr.io/nvidia/tritonserver:25.10-py3"
    made = render({"predictor": {"image": image, "gpus": 2, "gpuResource": "nvidia.com/mig-1g.10gb", "maxSurge": 0}})
    limits = made.container("predictor")["resources"]["limits"]
    assert limits["nvidia.com/mig-1g.10gb"] == 2
    assert "memory" in limits
    strategy = made.one("InferenceService", "predictor")["spec"]["predictor"]["deploymentStrategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_helm_test_asks_the_example_models_unless_they_are_others(render: Render) -> None:
    assert len(render().of("Pod")) == 5
    assert set(render({"test": {"examples": False}}).of("Pod")) == {"test-stages-are-ready"}
