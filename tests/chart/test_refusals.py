"""A contradiction, or an API that the cluster lacks, is refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.objects import Render
from tools.chart.program import APIS, ProgramFailed

GATEWAY = {"enabled": True, "parents": [{"name": "public"}], "hostnames": ["a.example.com"]}
SERVED = {"model": "m", "traffic": [{"version": 1, "percent": 100}]}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"preprocess": {"replica": 2}}, "additional properties 'replica' not allowed"),
    ({"prepocess": {}}, "additional properties 'prepocess' not allowed"),
    ({"mode": "standard"}, "value must be one of 'Standard'"),
    ({"preprocess": {"replicas": "2"}}, "want integer"),
    ({"predictor": {"sharedMemory": "64"}}, "does not match pattern"),
    ({"preprocess": {"replicas": 0}}, "preprocess.replicas is 0, and only Knative mode starts a pod for a request"),
    ({"predictor": {"gpus": 1}}, "predictor.image is triton-cpu, which uses none"),
    ({"preprocess": {"shutdown": {"graceSeconds": 33.5}}}, "add up to 40.5 s, and terminationGracePeriodSeconds is 40"),
    ({"predictor": {"shutdown": {"graceSeconds": 36}}}, "predictor.shutdown: preStopSeconds"),
    ({"controller": {"shutdown": {"graceSeconds": 60}}}, "controller.shutdown: preStopSeconds"),
    ({"preprocess": {"settings": {"port": 1}}}, "preprocess.settings.port: the chart sets this itself"),
    ({"controller": {"settings": {"triton": "a:1"}}}, "controller.settings.triton: the chart sets this itself"),
    ({"postprocess": {"settings": {"grace_s": 1}}}, "postprocess.settings.grace_s: the chart sets this itself"),
    ({"preprocess": {"autoscaling": {"signal": "concurrency"}}}, "concurrency, which is Knative's"),
    (
        {"mode": "Knative", "preprocess": {"autoscaling": {"signal": "cpu"}}},
        "in Knative mode replicas follow concurrency",
    ),
    ({"mode": "Knative", "preprocess": {"replicas": 0, "autoscaling": {"maxReplicas": 0}}}, "are both 0"),
    ({"preprocess": {"autoscaling": {"signal": "queue", "maxReplicas": 2}}}, "metrics.prometheus is empty"),
    ({"mode": "Knative", "preprocess": {"rest": True}}, "which gives a pod one port"),
    ({"mode": "Grouped", "preprocess": {"mode": "Deployment"}}, "grouped stages have no modes of their own"),
    (
        {"mode": "Grouped", "predictor": {"replicas": 2}},
        "predictor.replicas and predictor.autoscaling.maxReplicas have to",
    ),
    (
        {"mode": "Grouped", "postprocess": {"replicas": 2}},
        "postprocess.replicas and postprocess.autoscaling.maxReplicas have to be 1",
    ),
    ({"mode": "Grouped", "postprocess": {"settings": {"log_level": "DEBUG"}}}, "postprocess.settings have no effect"),
    (
        {"postprocess": {"mode": "InProcess", "settings": {"log_level": "DEBUG"}}},
        "postprocess.mode is InProcess: preprocess does the work of postprocess in its own process, so "
        "postprocess.settings have no effect",
    ),
    ({"postprocess": {"mode": "InProcess", "image": "mine:1"}}, "code of your own belongs into preprocess.image"),
    ({"postprocess": {"mode": "InProcess", "autoscaling": {"maxReplicas": 3}}}, "maxReplicas have to be 1"),
    ({"preprocess": {"mode": "InProcess"}}, "value must be one of"),
    (
        {"preprocess": {"settings": {"postprocess": "in-process"}}},
        "preprocess.settings.postprocess: the chart sets this itself",
    ),
    ({"gateway": {"enabled": True}}, "gateway.parents is empty"),
    ({"gateway": GATEWAY | {"hostnames": []}}, "gateway.hostnames is empty: name the hosts of the route"),
    ({"gateway": GATEWAY | {"hostnames": ["*", ""]}}, "does not match pattern"),
    ({"gateway": GATEWAY | {"timeoutSeconds": "15s"}}, "does not match pattern"),
    ({"gateway": GATEWAY | {"timeoutSeconds": -1}}, "minimum: got -1, want 0"),
    (
        {"servedModels": [SERVED | {"release": "two"}]},
        "servedModels has release two for m: the chart sets it",
    ),
    ({"servedModels": [{"model": "m"}]}, "missing property 'traffic'"),
    ({"servedModels": [{"model": "m", "traffic": []}]}, "minItems: got 0, want 1"),
    ({"servedModels": [{"model": "m", "traffic": [{"version": 1}]}]}, "missing property 'percent'"),
    ({"servedModels": [SERVED | {"traffic": [{"version": 0, "percent": 100}]}]}, "minimum: got 0, want 1"),
    (
        {"servedModels": [SERVED | {"traffic": [{"version": 1, "percent": 99}]}]},
        "servedModels: the percents of m have to sum to 100, got 99",
    ),
    (
        {"servedModels": [SERVED | {"traffic": [{"version": 1, "percent": 50}] * 2}]},
        "servedModels: m has a version more than once: 1, 1",
    ),
    ({"servedModels": [SERVED | {"model": "a_b"}, SERVED | {"model": "a-b"}]}, "servedModels has a-b more than once"),
    (
        {"canary": {"enabled": True, "servedModels": [SERVED, SERVED]}, "gateway": GATEWAY},
        "canary.servedModels has m more than once",
    ),
    ({"mode": "Knative", "gateway": GATEWAY}, "Knative has its own ingress"),
    ({"mode": "Knative", "networkPolicy": {"callers": [{"podSelector": {}}]}}, "restrict them there"),
    ({"models": {"store": "pvc"}}, "models.claim is empty"),
    ({"models": {"claim": "models"}}, "are for models.store pvc, and the store is image"),
    ({"models": {"store": "s3", "uri": "gs://bucket/models"}}, "models.uri has to begin with s3://"),
    ({"models": {"store": "gs"}}, "models.uri has to begin with gs://"),
    ({"models": {"secret": "keys"}}, "models.secret is for models.store s3 and gs, and the store is image"),
    ({"models": {"ca": {"secret": "a"}}}, "models.ca.secret is for models.store s3 and gs, and the store is image"),
    ({"models": {"proxy": "http://p"}}, "models.proxy is for models.store s3 and gs, and the store is image"),
    (
        {"models": {"store": "s3", "uri": "s3://b", "ca": {"secret": "a", "configMap": "b"}}},
        "models.ca.secret is a and models.ca.configMap is b: name the one that has the authorities",
    ),
    ({"models": {"store": "pvc", "claim": "a", "endpoint": "http://minio"}}, "models.endpoint is for models.store s3"),
    ({"models": {"store": "gs", "uri": "gs://bucket/models", "region": "eu"}}, "models.region is for models.store s3"),
    ({"models": {"store": "s3", "uri": "s3://bucket/models", "pollSeconds": 0}}, "minimum: got 0, want 1"),
    ({"models": {"initializer": "kserve/storage-initializer"}}, "additional properties 'initializer' not allowed"),
    ({"predictor": {"modelControl": {"restricted": False, "secret": "a"}}}, "without a restriction there is no key"),
    ({"controller": {"settings": {"triton_key": "a"}}}, "controller.settings.triton_key: the chart sets this itself"),
    (
        {"models": {"store": "s3", "uri": "s3://b/m"}, "controller": {"settings": {"poll_s": 1}}},
        "controller.settings.poll_s: the chart sets this itself",
    ),
]


@pytest.mark.parametrize(("values", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_wrong_value_is_refused_with_a_sentence(render: Render, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ProgramFailed) as refused:
        render(values)
    assert sentence in str(refused.value)


def test_the_grace_period_may_be_used_up_to_its_end(render: Render) -> None:
    render({"preprocess": {"shutdown": {"graceSeconds": 28}}})


LACKING: list[tuple[dict[str, Any], str, str]] = [
    ({}, "serving.kserve.io/v1beta1", "mode: Deployment works without"),
    ({"mode": "Knative"}, "serving.knative.dev/v1", "mode: Standard works without"),
    ({"gateway": GATEWAY}, "gateway.networking.k8s.io/v1", "reached by its Service"),
    (
        {"mode": "Deployment", "gateway": GATEWAY | {"retries": 2}},
        "gateway.envoyproxy.io/v1alpha1",
        "gateway.retries: 0 works without",
    ),
    (
        {"metrics": {"serviceMonitor": {"enabled": True}}},
        "monitoring.coreos.com/v1",
        "metrics.annotations works without",
    ),
    (
        {
            "preprocess": {"autoscaling": {"signal": "queue", "maxReplicas": 2}},
            "metrics": {"prometheus": "http://prometheus:9090"},
        },
        "keda.sh/v1alpha1",
        "signal cpu works without",
    ),
]


@pytest.mark.parametrize(("values", "missing", "sentence"), LACKING, ids=[missing for _, missing, _ in LACKING])
def test_what_the_cluster_lacks_is_named_with_what_works_without_it(
    render: Render, values: dict[str, Any], missing: str, sentence: str
) -> None:
    there = APIS[: APIS.index(missing)]
    with pytest.raises(ProgramFailed) as refused:
        render(values, apis=there)
    assert missing in str(refused.value)
    assert sentence in str(refused.value)
    render(values, apis=(*there, missing))


KINDS = {
    "serving.kserve.io/v1beta1": "InferenceService",
    "serving.knative.dev/v1": "Service",
    "gateway.networking.k8s.io/v1": "GRPCRoute",
    "gateway.envoyproxy.io/v1alpha1": "BackendTrafficPolicy",
    "monitoring.coreos.com/v1": "ServiceMonitor",
    "keda.sh/v1alpha1": "ScaledObject",
    "cert-manager.io/v1": "Certificate",
}
CLUSTER = ("v1/Pod", *APIS)  # a cluster lists its kinds too


@pytest.mark.parametrize(("values", "missing", "sentence"), LACKING, ids=[missing for _, missing, _ in LACKING])
def test_another_kind_of_the_same_group_does_not_count(
    render: Render, values: dict[str, Any], missing: str, sentence: str
) -> None:
    """external-secrets/external-secrets#5058; Gateway API 1.0, whose GRPCRoute is of v1alpha2."""
    others = tuple(f"{api}/{kind}" for api, kind in KINDS.items() if api != missing)
    with pytest.raises(ProgramFailed) as refused:
        render(values, apis=(*CLUSTER, *others, f"{missing}/Another"))
    assert f"{missing}/{KINDS[missing]}" in str(refused.value)
    assert sentence in str(refused.value)
    render(values, apis=(*CLUSTER, *others, f"{missing}/{KINDS[missing]}"))


def test_a_gateway_of_which_the_cluster_has_no_policies_gets_none(render: Render) -> None:
    values = {"mode": "Deployment", "gateway": GATEWAY}
    policy = "gateway.envoyproxy.io/v1alpha1/BackendTrafficPolicy"
    there = (*CLUSTER, "gateway.networking.k8s.io/v1/GRPCRoute", "gateway.envoyproxy.io/v1alpha1/EnvoyProxy")
    assert not render(values, apis=there).of("BackendTrafficPolicy")
    assert render(values, apis=(*there, policy)).of("BackendTrafficPolicy")
