"""Jobs in the chart: off, one pod with files, API and workers apart, autoscaling, and contradictions."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.metrics import JobsMetrics
from tests.chart.objects import Object, Objects, Render
from tools.chart.program import ProgramFailed
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

SHARED: dict[str, Any] = {"ledger": {"secret": "ledger"}, "objects": "s3://bucket/jobs"}
SCALED = SHARED | {"workers": {"autoscaling": {"maxReplicas": 3}}}


def values(**jobs: Any) -> dict[str, Any]:
    return {"mode": "Deployment", "jobs": {"enabled": True} | jobs}


def container(made: Objects, name: str = "jobs") -> Object:
    only: Object = made.one("Deployment", name)["spec"]["template"]["spec"]["containers"][0]
    return only


def environment(made: Objects, name: str = "jobs") -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(made, name)["env"] if "value" in each}


def own(made: Objects) -> set[str]:
    return {f"{each['kind']}/{each['metadata']['name']}" for each in made.all if "jobs" in each["metadata"]["name"]}


@pytest.mark.parametrize("mode", ["Standard", "Knative", "Grouped", "Deployment"])
def test_jobs_are_off_unless_they_are_asked_for(render: Render, mode: str) -> None:
    assert own(render({"mode": mode})) == set()
    kinds = ("Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount")
    one = {f"{kind}/jobs" for kind in kinds} | {"Pod/test-jobs-answer-from-the-ledger"}
    assert own(render(values() | {"mode": mode})) == one
    apart = {f"{kind}/jobs-worker" for kind in (*kinds, "ScaledObject")}
    assert own(render(values(**SCALED) | {"mode": mode})) == one | apart


def test_one_pod_has_ledger_and_objects_in_files_and_works_itself(render: Render) -> None:
    made = render(values())
    found = environment(made)
    assert found["JOBS_LEDGER"] == "sqlite:////data/jobs.db"
    assert found["JOBS_OBJECTS"] == "/data/objects"
    assert "JOBS_PARALLEL_PARTS" not in found
    spec = made.one("Deployment", "jobs")["spec"]
    assert spec["strategy"] == {"type": "Recreate"}, "two pods may not have one ledger"
    assert {"name": "data", "emptyDir": {}} in spec["template"]["spec"]["volumes"]
    claimed = render(values(claim="jobs")).one("Deployment", "jobs")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "jobs"}} in claimed


def test_keys_and_passwords_come_from_secrets_alone(render: Render) -> None:
    s3 = {"endpoint": "http://minio:9000", "region": "eu-central-1", "secret": "store"}
    made = render(values(**SCALED, s3=s3))
    for name in ("jobs", "jobs-worker"):
        sources = {each["name"]: each.get("valueFrom", {}).get("secretKeyRef") for each in container(made, name)["env"]}
        assert sources["JOBS_LEDGER"] == {"name": "ledger", "key": "url"}
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert sources[key] == {"name": "store", "key": key}
        found = environment(made, name)
        assert (found["AWS_ENDPOINT_URL"], found["AWS_REGION"]) == ("http://minio:9000", "eu-central-1")
        assert "volumes" not in made.one("Deployment", name)["spec"]["template"]["spec"]


def test_workers_apart_have_the_options_of_the_api_below_their_own(render: Render) -> None:
    jobs = SHARED | {
        "replicas": 2,
        "sources": ["s3://bucket/in", "/in"],
        "settings": {"lease_s": 20},
        "nodeSelector": {"pool": "api", "zone": "a"},
        "workers": {"replicas": 3, "settings": {"parallel_parts": 4}, "nodeSelector": {"pool": "spot"}},
    }
    made = render(values(**jobs))
    assert made.one("Deployment", "jobs")["spec"]["replicas"] == 2
    assert made.one("Deployment", "jobs-worker")["spec"]["replicas"] == 3
    api, worker = environment(made), environment(made, "jobs-worker")
    assert (api["JOBS_PARALLEL_PARTS"], worker["JOBS_PARALLEL_PARTS"]) == ("0", "4")
    assert api["JOBS_TOTAL_PARALLEL_PARTS"] == worker["JOBS_TOTAL_PARALLEL_PARTS"] == "12"
    assert api["JOBS_LEASE_S"] == worker["JOBS_LEASE_S"] == "20"
    assert api["JOBS_SOURCES"] == worker["JOBS_SOURCES"] == "s3://bucket/in,/in"
    pod = made.one("Deployment", "jobs-worker")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "spot", "zone": "a"}
    ports = {
        name: [port["name"] for port in made.one("Service", name)["spec"]["ports"]] for name in ("jobs", "jobs-worker")
    }
    assert ports == {"jobs": ["grpc", "metrics"], "jobs-worker": ["metrics"]}
    assert not made.of("ScaledObject")


def test_keda_scales_workers_from_zero_by_a_series_that_the_api_has(render: Render) -> None:
    jobs = SHARED | {"workers": {"autoscaling": {"maxReplicas": 9, "partsPerReplica": 7, "scaleDownAfterSeconds": 5}}}
    made = render(values(**jobs) | {"fullnameOverride": "two"}, namespace="shop")
    assert "replicas" not in made.one("Deployment", "two-jobs-worker")["spec"]
    spec = made.one("ScaledObject", "two-jobs-worker")["spec"]
    assert spec["scaleTargetRef"] == {"name": "two-jobs-worker"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["cooldownPeriod"]) == (0, 9, 5)
    (trigger,) = spec["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("metrics-api", "AverageValue")
    metadata = trigger["metadata"]
    assert metadata["url"] == "http://two-jobs.shop.svc:9103/metrics"
    assert (metadata["format"], metadata["targetValue"]) == ("prometheus", "7")
    registry = StageMetrics("jobs", Tracing()).registry
    JobsMetrics(registry)
    assert metadata["valueLocation"] in {family.name for family in registry.collect()}


def test_calls_go_to_every_pod_of_preprocess(render: Render) -> None:
    made = render(values(**SCALED) | {"mode": "Standard"})
    assert environment(made, "jobs-worker")["JOBS_PREPROCESS"] == "dns:///preprocess-pods:9000"
    knative = environment(render(values() | {"mode": "Knative"}))
    assert knative["JOBS_PREPROCESS"] == "preprocess-predictor.triptych:80"


def test_with_tls_jobs_serve_and_call_with_the_certificate(render: Render) -> None:
    tls = {"mode": "mutual", "issuer": {"name": "ca"}}
    made = render(values(**SCALED) | {"tls": tls})
    for name in ("jobs", "jobs-worker"):
        found = environment(made, name)
        assert (found["JOBS_TLS_CERT"], found["JOBS_UPSTREAM_CA"]) == ("/tls/tls.crt", "/tls/ca.crt")
        assert {"name": "tls", "mountPath": "/tls", "readOnly": True} in container(made, name)["volumeMounts"]
        assert container(made, name)["livenessProbe"]["httpGet"] == {"path": "/live", "port": 9103}
    names = made.one("Certificate", "tls")["spec"]["dnsNames"]
    assert {"jobs", "preprocess-pods"} <= set(names)
    assert "jobs" not in render({"mode": "Deployment", "tls": tls}).one("Certificate", "tls")["spec"]["dnsNames"]


def test_policies_name_callers_and_what_may_be_called(render: Render) -> None:
    open_to_all = render(values(**SCALED))
    (rule, metrics) = open_to_all.one("NetworkPolicy", "jobs")["spec"]["ingress"]
    assert rule == {"ports": [{"port": 9003, "protocol": "TCP"}]}
    assert metrics == {"ports": [{"port": 9103, "protocol": "TCP"}]}
    assert open_to_all.one("NetworkPolicy", "jobs-worker")["spec"]["ingress"] == [metrics], "nobody calls a worker"
    caller = {"podSelector": {"matchLabels": {"app": "shop"}}}
    database = {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"port": 5432}]}
    policy = {"callers": [caller], "jobsCallers": [caller], "jobsEgress": [database]}
    made = render(values(**SCALED) | {"networkPolicy": policy})
    first = made.one("NetworkPolicy", "jobs")["spec"]["ingress"][0]
    assert first["from"][0] == caller
    assert first["from"][1]["podSelector"]["matchExpressions"][0]["values"] == ["test", "batch"]
    for name in ("jobs", "jobs-worker"):
        spec = made.one("NetworkPolicy", name)["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert spec["egress"][-1] == database
        assert "preprocess" in str(spec["egress"])
        assert [each["port"] for each in spec["egress"][0]["ports"]] == [53, 53]
    callers = made.one("NetworkPolicy", "preprocess")["spec"]["ingress"][0]["from"][1]
    assert {"jobs", "jobs-worker"} <= set(callers["podSelector"]["matchExpressions"][0]["values"])


def test_the_prometheus_operator_finds_api_and_workers(render: Render) -> None:
    made = render(values(**SCALED) | {"metrics": {"serviceMonitor": {"enabled": True}}})
    for name in ("jobs", "jobs-worker"):
        spec = made.one("ServiceMonitor", name)["spec"]
        assert spec["selector"]["matchLabels"].items() <= made.one("Service", name)["metadata"]["labels"].items()
        assert [each["port"] for each in spec["endpoints"]] == ["metrics"]


def test_a_canary_has_no_jobs_of_its_own(render: Render) -> None:
    gateway = {"enabled": True, "parents": [{"name": "public"}], "hostnames": ["a.example.com"]}
    canary = {"enabled": True, "preprocess": {"replicas": 2}}
    made = render(values(**SCALED) | {"gateway": gateway, "canary": canary})
    assert own(made) == own(render(values(**SCALED)))
    assert environment(made, "jobs-worker")["JOBS_PREPROCESS"] == "dns:///preprocess-pods:9000"


def test_helm_test_asks_jobs_for_what_the_ledger_has(render: Render) -> None:
    (check,) = render(values()).one("Pod", "test-jobs-answer-from-the-ledger")["spec"]["containers"]
    assert check["command"][-1] == "jobs:9003"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 2}, "jobs.replicas is more than 1 and jobs.ledger.secret is empty"),
    ({"workers": {"replicas": 1}}, "jobs.workers has pods of their own and jobs.ledger.secret is empty"),
    ({"workers": {"autoscaling": {"maxReplicas": 1}}}, "name a Secret with the URL of a Postgres"),
    ({"ledger": {"secret": "a"}, "replicas": 2}, "jobs.replicas is more than 1 and jobs.objects is empty"),
    (SHARED | {"claim": "a"}, "jobs.claim is set, and neither the ledger nor the objects are files"),
    ({"sources": ["s3://a,s3://b"]}, 'jobs.sources has "s3://a,s3://b": a comma separates two sources'),
    ({"objects": "gs://bucket"}, "objects"),
    ({"settings": {"ledger": "sqlite:///a"}}, "jobs.settings.ledger: the chart sets this itself"),
    ({"settings": {"sources": "/"}, "sources": ["/in"]}, "jobs.settings.sources: the chart sets this itself"),
    (SCALED | {"settings": {"parallel_parts": 3}}, "jobs.settings.parallel_parts: the chart sets this itself"),
    ({"shutdown": {"graceSeconds": 25}}, "jobs.shutdown: preStopSeconds, drainSeconds and graceSeconds add up to 41 s"),
    (
        SHARED | {"workers": {"replicas": 1, "shutdown": {"graceSeconds": 21}}},
        "jobs.workers.shutdown: preStopSeconds, drainSeconds and graceSeconds add up to 31 s with the 10 s",
    ),
    ({"extraEnv": [{"name": "JOBS_OBJECTS", "value": "/"}]}, "extraEnv of jobs has JOBS_OBJECTS"),
]


@pytest.mark.parametrize(("wrong", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_contradiction_is_refused_with_a_sentence(render: Render, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ProgramFailed) as refused:
        render(values(**wrong))
    assert sentence in str(refused.value)


def test_keda_is_needed_for_autoscaling_alone(render: Render) -> None:
    assert "jobs-worker" in render(values(**SHARED, workers={"replicas": 1}), apis=()).of("Deployment")
    with pytest.raises(ProgramFailed, match="the cluster has no KEDA"):
        render(values(**SCALED), apis=())
