"""The example of a backend: off, on, with each store, and contradictions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chart.objects import Object, Objects, Render
from tools.chart.program import CHART, ProgramFailed

MODES = ("Standard", "Knative", "Grouped", "Deployment")


def values(**backend: Any) -> dict[str, Any]:
    return {"backend": {"enabled": True} | backend}


def container(made: Objects) -> Object:
    only: Object = made.one("Deployment", "backend")["spec"]["template"]["spec"]["containers"][0]
    return only


def environment(made: Objects) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(made)["env"] if "value" in each}


@pytest.mark.parametrize("mode", MODES)
def test_the_backend_is_off_unless_it_is_asked_for(render: Render, mode: str) -> None:
    off = {f"{each['kind']}/{each['metadata']['name']}" for each in render({"mode": mode}).all}
    on = {f"{each['kind']}/{each['metadata']['name']}" for each in render({"mode": mode} | values()).all}
    kinds = ("ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Secret", "Service", "ServiceAccount")
    checks = ("refuses-a-missing-token", "forecasts-for-a-valid-token")
    own = {f"{kind}/backend" for kind in kinds} | {f"Pod/test-backend-{check}" for check in checks}
    assert on - off == own


@pytest.mark.parametrize(
    ("mode", "address"),
    [
        ("Standard", "dns:///preprocess-pods:9000"),
        ("Grouped", "dns:///preprocess-pods:9000"),
        ("Deployment", "dns:///preprocess-pods:9000"),
        ("Knative", "preprocess-predictor.triptych:80"),
    ],
)
def test_it_calls_every_pod_of_preprocess_or_the_ingress_of_knative(render: Render, mode: str, address: str) -> None:
    made = render({"mode": mode} | values())
    assert environment(made)["BACKEND_PREPROCESS"] == address
    if mode != "Knative":
        assert made.one("Service", "preprocess-pods")["spec"]["clusterIP"] == "None"


def test_the_key_of_tokens_is_made_or_given_and_helm_test_has_it(render: Render) -> None:
    made = render(values())
    assert made.one("Secret", "backend")["data"] == {"key": "bWFkZSBieSB0aGUgY2hhcnQ="}
    given = render(values(jwt={"secret": "tokens", "audience": "shop"}))
    assert "backend" not in given.of("Secret")
    assert environment(given)["BACKEND_JWT_AUDIENCE"] == "shop"
    for each, secret in ((made, "backend"), (given, "tokens")):
        key = {"valueFrom": {"secretKeyRef": {"name": secret, "key": "key"}}}
        assert {"name": "BACKEND_JWT_KEY"} | key in container(each)["env"]
        (test,) = each.one("Pod", "test-backend-refuses-a-missing-token")["spec"]["containers"]
        assert {"name": "JWT_KEY"} | key in test["env"]
    assert "env" not in made.one("Pod", "test-stages-are-ready")["spec"]["containers"][0]


def test_the_embedded_store_has_an_example_or_the_articles_that_are_given(render: Render) -> None:
    made = render(values())
    assert (CHART / "files/articles.json").read_text() == made.one("ConfigMap", "backend")["data"]["articles.json"]
    article = {"history": [1] * 28, "price": [2] * 7, "promotion": [False] * 7}
    given = render(values(features={"articles": {"FR": {"boot": article}}}))
    assert json.loads(given.one("ConfigMap", "backend")["data"]["articles.json"]) == {"FR": {"boot": article}}
    assert environment(given)["BACKEND_ARTICLES"] == "/articles/articles.json"
    assert "test-backend-forecasts-for-a-valid-token" not in given.of("Pod"), "it asks for the example"
    pods = [each.one("Deployment", "backend")["spec"]["template"]["metadata"]["annotations"] for each in (made, given)]
    assert pods[0] != pods[1], "other articles are other pods"


def test_redis_and_feast_are_named_by_url_and_what_has_a_password_by_secret(render: Render) -> None:
    redis = environment(render(values(features={"store": "redis", "url": "redis://redis:6379/0"})))
    assert redis["BACKEND_FEATURES"] == "redis://redis:6379/0"
    assert "BACKEND_ARTICLES" not in redis
    made = render(values(features={"store": "redis", "secret": "redis"}))
    from_secret = {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
    assert {"name": "BACKEND_FEATURES"} | from_secret in container(made)["env"]
    assert "BACKEND_FEATURES" not in environment(made)
    assert "volumes" not in made.one("Deployment", "backend")["spec"]["template"]["spec"]
    feast = render(values(features={"store": "feast", "url": "http://feast:6566/", "service": "articles"}))
    assert environment(feast)["BACKEND_FEATURES"] == "feast+http://feast:6566/articles"


def test_it_scales_on_cpu_in_every_mode(render: Render) -> None:
    for mode in MODES:
        made = render({"mode": mode} | values(autoscaling={"maxReplicas": 3, "cpuPercent": 44}))
        spec = made.one("HorizontalPodAutoscaler", "backend")["spec"]
        assert spec["scaleTargetRef"]["name"] == "backend"
        assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 44
        assert "replicas" not in made.one("Deployment", "backend")["spec"]


def test_where_callers_of_preprocess_are_named_the_backend_is_one(render: Render) -> None:
    named = {"networkPolicy": {"callers": [{"podSelector": {"matchLabels": {"team": "shop"}}}]}}
    for mode, policy in (("Standard", "preprocess"), ("Grouped", "grouped")):
        made = render({"mode": mode} | values() | named)
        rule = made.one("NetworkPolicy", policy)["spec"]["ingress"][0]
        assert rule["from"][1]["podSelector"]["matchExpressions"][0]["values"] == ["test", "backend"]
    postprocess = render(values() | named).one("NetworkPolicy", "postprocess")["spec"]["ingress"][0]
    assert "backend" not in str(postprocess)
    (open_to_all,) = render(values()).one("NetworkPolicy", "backend")["spec"]["ingress"]
    assert open_to_all == {"ports": [{"port": 8080, "protocol": "TCP"}]}


def test_a_canary_has_no_backend_of_its_own(render: Render) -> None:
    gateway = {"enabled": True, "parents": [{"name": "public"}], "hostnames": ["a.example.com"]}
    canary = {"enabled": True, "preprocess": {"replicas": 2}}
    made = render({"gateway": gateway, "canary": canary} | values(autoscaling={"maxReplicas": 2}))
    assert [each["metadata"]["name"] for each in made.all if "backend-canary" in each["metadata"]["name"]] == []


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"features": {"url": "redis://redis"}}, "are for the stores redis and feast, and"),
    ({"features": {"store": "redis", "url": "redis://r", "articles": {"DE": {"a": {}}}}}, "is for the embedded store"),
    ({"features": {"store": "redis"}}, "give backend.features.url, or backend.features.secret"),
    ({"features": {"store": "redis", "url": "redis://r", "secret": "s"}}, "give backend.features.url, or"),
    ({"features": {"store": "redis", "url": "http://redis"}}, 'has to begin with redis://, got "http://redis"'),
    ({"features": {"store": "redis", "url": "redis://r", "service": "a"}}, "service is for store feast"),
    ({"features": {"store": "feast", "url": "http://feast:6566"}}, "and backend.features.service"),
    ({"features": {"store": "feast", "url": "redis://feast", "service": "a"}}, "as in http://feast:6566"),
    ({"features": {"store": "mongo"}}, "value must be one of"),
    ({"settings": {"preprocess": "a:1"}}, "backend.settings.preprocess: the chart sets this itself"),
    ({"settings": {"jwt_key": "a"}}, "backend.settings.jwt_key: the chart sets this itself"),
    ({"shutdown": {"graceSeconds": 26}}, "backend.shutdown: preStopSeconds"),
    ({"replicas": 0}, "minimum: got 0, want 1"),
]


@pytest.mark.parametrize(("wrong", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_contradiction_is_refused_with_a_sentence(render: Render, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ProgramFailed) as refused:
        render(values(**wrong))
    assert sentence in str(refused.value)
