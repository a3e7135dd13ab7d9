"""The routes of a Gateway, their hosts and their timeouts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.objects import Object, Objects, Render, backend

GATEWAY: dict[str, Any] = {"enabled": True, "parents": [{"name": "public"}], "hostnames": ["api.example.com"]}
CANARY = {"enabled": True, "percent": 10, "preprocess": {"image": "triptych/preprocess:2"}}
BASIC = ("serving.kserve.io/v1beta1", "gateway.networking.k8s.io/v1")


def gateway(**more: Any) -> dict[str, Any]:
    return {"gateway": GATEWAY | more}


def policy(made: Objects, name: str = "preprocess") -> Object:
    spec: Object = made.one("BackendTrafficPolicy", name)["spec"]
    (target,) = spec["targetRefs"]
    assert (target["kind"], target["name"]) == ("GRPCRoute", name)
    return spec


def test_the_gateway_routes_hosts_to_preprocess(render: Render) -> None:
    assert not render().of("GRPCRoute")
    assert not render().of("BackendTrafficPolicy")
    spec = render(gateway()).one("GRPCRoute", "preprocess")["spec"]
    assert spec["rules"] == [{"backendRefs": [backend("preprocess")]}]
    assert spec["hostnames"] == ["api.example.com"]


def test_a_route_takes_all_hosts_only_if_it_is_told_to(render: Render) -> None:
    assert "hostnames" not in render(gateway(hostnames=["*"])).one("GRPCRoute", "preprocess")["spec"]


def test_a_call_ends_by_its_deadline_and_the_stages_unless_a_timeout_is_set(render: Render) -> None:
    made = render(gateway())
    assert policy(made)["timeout"]["http"] == {"requestTimeout": "0s"}
    assert policy(made)["mergeType"] == "StrategicMerge", "policies of the Gateway stay in force"
    assert "retry" not in policy(made)
    assert made.one("InferenceService", "preprocess")["spec"]["predictor"]["timeout"] == 0
    assert set(made.of("GRPCRoute")) == {"preprocess"}


@pytest.mark.parametrize("seconds", [15, 3600, 2_000_000])
def test_a_timeout_of_the_gateway_ends_calls_and_no_stream(render: Render, seconds: int) -> None:
    made = render(gateway(timeoutSeconds=seconds))
    assert policy(made)["timeout"]["http"] == {"requestTimeout": f"{seconds}s"}
    assert policy(made, "preprocess-streams")["timeout"]["http"] == {"requestTimeout": "0s"}
    assert made.one("InferenceService", "preprocess")["spec"]["predictor"]["timeout"] == seconds
    route = made.one("GRPCRoute", "preprocess-streams")["spec"]
    assert route["hostnames"] == ["api.example.com"]
    (rule,) = route["rules"]
    assert rule["backendRefs"] == [backend("preprocess")]
    assert {match["method"]["method"] for match in rule["matches"]} == {"Watch", "ModelStreamInfer"}


def test_streams_are_split_like_other_calls(render: Render) -> None:
    made = render(gateway(timeoutSeconds=15) | {"canary": CANARY})
    calls, streams = (made.one("GRPCRoute", name)["spec"]["rules"] for name in ("preprocess", "preprocess-streams"))
    assert [rule["backendRefs"] for rule in streams] == [rule["backendRefs"] for rule in calls]
    assert [each["weight"] for each in streams[0]["backendRefs"]] == [90, 10]
    for rule, of_streams in zip(calls, streams, strict=True):
        headers = [match["headers"] for match in rule.get("matches", ())]
        assert [match.get("headers") for match in of_streams["matches"]] == (headers or [None]) * 2


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_timeout_leaves_those_of_the_gateway(render: Render, empty: str | None) -> None:
    made = render(gateway(timeoutSeconds=empty))
    assert not made.of("BackendTrafficPolicy")
    assert "timeout" not in made.one("InferenceService", "preprocess")["spec"]["predictor"]
    assert "timeout" not in policy(render(gateway(timeoutSeconds=empty, retries=2)))


def test_a_cluster_without_envoy_gateway_gets_the_route_alone(render: Render) -> None:
    made = render(gateway(timeoutSeconds=15), apis=BASIC)
    assert set(made.of("GRPCRoute")) == {"preprocess"}
    assert not made.of("BackendTrafficPolicy")


def test_a_stage_in_knative_mode_has_the_timeouts_of_knative(render: Render) -> None:
    assert "timeout" not in render({"mode": "Knative"}).one("InferenceService", "preprocess")["spec"]["predictor"]


def test_only_the_route_to_preprocess_has_a_timeout(render: Render) -> None:
    assert "timeout" not in render().one("InferenceService", "predictor")["spec"]["predictor"]


def test_envoy_gateway_retries_unanswered_requests_if_it_is_configured(render: Render) -> None:
    retry = policy(render(gateway(retries=2)))["retry"]
    assert retry["numRetries"] == 2
    assert {"unavailable", "reset"} < set(retry["retryOn"]["triggers"])
    assert not {"deadline-exceeded", "internal", "resource-exhausted"} & set(retry["retryOn"]["triggers"])
