"""Each option on, off and at the edge."""

from __future__ import annotations

from typing import Any

import pytest

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
    made = render({stage: scaled("queue"), "metrics": PROMETHEUS})
    spec = made.one("ScaledObject", stage)["spec"]
    assert spec["scaleTargetRef"]["name"] == f"{stage}-predictor"
    trigger = spec["triggers"][0]
    assert metric in trigger["metadata"]["query"]
    assert 'namespace="triptych"' in trigger["metadata"]["query"]
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
    assert set(policies) == {"preprocess", "predictor", "postprocess", "repository"}
    callers = {name: _callers(policy, port) for name, policy, port in _serving_ports(policies)}
    assert callers == {
        "preprocess": "anyone",
        "predictor": {"repository", "preprocess"},
        "postprocess": {"preprocess", "test"},
        "repository": {"preprocess", "postprocess", "grouped", "test"},
    }


def _serving_ports(policies: dict[str, Any]) -> list[tuple[str, Any, int]]:
    ports = {"preprocess": 9000, "predictor": 8001, "postprocess": 9001, "repository": 9002}
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


def test_the_gateway_routes_hosts_to_preprocess(render: Render) -> None:
    assert not render().of("GRPCRoute")
    gateway = {"enabled": True, "parents": [{"name": "public"}], "hostnames": ["api.example.com"]}
    spec = render({"gateway": gateway}).one("GRPCRoute", "preprocess")["spec"]
    assert spec["rules"][0]["backendRefs"] == [{"name": "preprocess", "port": 9000}]
    assert spec["hostnames"] == ["api.example.com"]


def test_the_prometheus_operator_finds_each_stage_on_a_port_that_is_there(render: Render) -> None:
    assert not render().of("ServiceMonitor")
    made = render({"metrics": {"serviceMonitor": {"enabled": True}}})
    assert set(made.of("ServiceMonitor")) == {"preprocess", "predictor", "postprocess", "repository"}
    for monitor in made.of("ServiceMonitor").values():
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        ports = [
            port["name"]
            for service in made.of("Service").values()
            if wanted <= service["metadata"]["labels"].items()
            for port in service["spec"]["ports"]
        ]
        assert ports.count(monitor["spec"]["endpoints"][0]["port"]) == 1


def test_the_dashboard_is_a_configmap_that_grafana_finds(render: Render) -> None:
    assert "dashboard" not in render().of("ConfigMap")
    labels = render({"metrics": {"dashboard": {"enabled": True}}}).one("ConfigMap", "dashboard")["metadata"]["labels"]
    assert labels["grafana_dashboard"] == "1"


def test_models_in_a_volume_are_mounted_and_not_copied(render: Render) -> None:
    made = render({"models": {"store": "pvc", "claim": "models", "path": "prod"}})
    for name, pod in made.pods():
        assert "initContainers" not in pod, name
    for stage in ("predictor", "repository"):
        mount = next(each for each in made.container(stage)["volumeMounts"] if each["mountPath"] == "/models")
        assert mount == {"name": "models", "mountPath": "/models", "readOnly": True, "subPath": "prod"}


def test_models_in_an_object_store_are_fetched_by_the_initializer_of_kserve(render: Render) -> None:
    made = render({"models": {"store": "s3", "uri": "s3://bucket/models", "secret": "keys"}})
    fetching = [each for name, each in made.containers() if name.endswith("/models")]
    assert len(fetching) == 2
    for each in fetching:
        assert each["args"] == ["s3://bucket/models", "/target"]
        assert each["envFrom"] == [{"secretRef": {"name": "keys"}}]


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
