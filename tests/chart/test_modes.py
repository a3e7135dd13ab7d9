"""The objects of each mode."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.objects import Render

MODES = ("Standard", "Knative", "Grouped", "Deployment")


def kserve_mode(isvc: dict[str, Any]) -> str:
    return str(isvc["metadata"]["annotations"]["serving.kserve.io/deploymentMode"])


def test_standard_makes_three_inferenceservices_and_the_controller_beside_them(render: Render) -> None:
    made = render()
    assert {name: kserve_mode(each) for name, each in made.of("InferenceService").items()} == {
        "preprocess": "Standard",
        "predictor": "Standard",
        "postprocess": "Standard",
    }
    assert set(made.of("Deployment")) == {"controller"}


def test_knative_leaves_the_predictor_in_standard_mode_where_each_triton_has_an_address(render: Render) -> None:
    made = render({"mode": "Knative"})
    modes = {name: kserve_mode(each) for name, each in made.of("InferenceService").items()}
    assert modes == {"preprocess": "Knative", "predictor": "Standard", "postprocess": "Knative"}
    assert made.environment("preprocess")["PREPROCESS_POSTPROCESS"] == "postprocess-predictor.triptych:80"


def test_grouped_puts_triton_and_preprocess_into_one_pod(render: Render) -> None:
    made = render({"mode": "Grouped"})
    isvc = made.one("InferenceService", "grouped")
    assert [each["name"] for each in isvc["spec"]["predictor"]["containers"]] == ["kserve-container", "predictor"]
    assert set(made.of("InferenceService")) == {"grouped"}


WITHOUT_POSTPROCESS: list[dict[str, Any]] = [
    {"mode": "Grouped"},
    *({"mode": mode, "postprocess": {"mode": "InProcess"}} for mode in ("Standard", "Knative", "Deployment")),
]


@pytest.mark.parametrize("values", WITHOUT_POSTPROCESS, ids=lambda values: values["mode"])
def test_in_process_nothing_is_made_for_postprocess_and_nobody_calls_it(render: Render, values: dict[str, Any]) -> None:
    made = render({**values, "metrics": {"serviceMonitor": {"enabled": True}}})
    assert made.environment("preprocess")["PREPROCESS_POSTPROCESS"] == "in-process"
    left = [each for each in made.all if each["metadata"]["name"].startswith("postprocess")]
    assert not left
    assert not [name for name, _ in made.containers() if "postprocess" in name]
    for word in ("9001", "9101", "triptych/postprocess", "POSTPROCESS_CONTROLLER", "postprocess:"):
        assert word not in made.text, word


@pytest.mark.parametrize("mode", ["Grouped", "Standard", "Deployment"])
def test_no_certificate_names_a_postprocess_that_is_not_there(render: Render, mode: str) -> None:
    (values,) = (each for each in WITHOUT_POSTPROCESS if each["mode"] == mode)
    tls = {"mode": "mutual", "issuer": {"name": "ca", "kind": "ClusterIssuer"}}
    spec = render({**values, "tls": tls}).one("Certificate", "tls")["spec"]
    assert not [name for name in spec["dnsNames"] if "postprocess" in name]
    assert "ipAddresses" not in spec


def test_a_canary_of_a_stack_in_process_has_its_postprocess_in_its_preprocess(render: Render) -> None:
    canary = {"enabled": True, "preprocess": {"image": "triptych/preprocess:2"}, "models": {"path": "next"}}
    gateway = {"enabled": True, "parents": [{"name": "public"}], "hostnames": ["a.example.com"]}
    values = {"postprocess": {"mode": "InProcess"}, "canary": canary, "gateway": gateway}
    made = render({**values, "models": {"store": "pvc", "claim": "models"}})
    assert set(made.of("InferenceService")) == {"preprocess", "predictor", "preprocess-canary", "predictor-canary"}


def test_a_stack_in_process_needs_no_kserve_for_the_stage_that_is_not_there(render: Render) -> None:
    made = render({"mode": "Deployment", "postprocess": {"mode": "InProcess"}}, apis=())
    assert set(made.of("Deployment")) == {"preprocess", "predictor", "controller"}


def test_deployment_makes_the_same_pods_and_nothing_of_kserve(render: Render) -> None:
    made = render({"mode": "Deployment"}, apis=())
    assert set(made.of("Deployment")) == {"preprocess", "predictor", "postprocess", "controller"}
    assert not made.of("InferenceService")
    standard = render()
    for stage in ("preprocess", "predictor", "postprocess"):
        assert made.container(stage) | {"name": ""} == standard.container(stage) | {"name": ""}


def test_a_stage_may_have_a_mode_of_its_own(render: Render) -> None:
    made = render({"mode": "Standard", "postprocess": {"mode": "Deployment"}})
    assert set(made.of("InferenceService")) == {"preprocess", "predictor"}
    assert set(made.of("Deployment")) == {"postprocess", "controller"}


@pytest.mark.parametrize("mode", MODES)
def test_only_preprocess_has_an_ingress_of_kserve(render: Render, mode: str) -> None:
    for name, isvc in render({"mode": mode}).of("InferenceService").items():
        hidden = isvc["metadata"]["labels"].get("networking.kserve.io/visibility") == "cluster-local"
        assert hidden is (name not in ("preprocess", "grouped"))


@pytest.mark.parametrize("mode", MODES)
def test_the_name_of_the_port_makes_a_gateway_use_grpc(render: Render, mode: str) -> None:
    for isvc in render({"mode": mode}).of("InferenceService").values():
        first = isvc["spec"]["predictor"]["containers"][0]["ports"][0]["name"]
        assert first == ("h2c" if kserve_mode(isvc) == "Knative" else "grpc")


def test_knative_gets_nothing_that_it_refuses(render: Render) -> None:
    made = render({"mode": "Knative", "priorityClassName": "high"})
    for name in ("preprocess", "postprocess"):
        pod = made.one("InferenceService", name)["spec"]["predictor"]
        refused = {"terminationGracePeriodSeconds", "topologySpreadConstraints", "priorityClassName", "securityContext"}
        assert not refused & pod.keys()
        assert len(pod["containers"][0]["ports"]) == 1
        assert "lifecycle" not in pod["containers"][0]


@pytest.mark.parametrize("mode", MODES)
def test_the_stages_find_each_other(render: Render, mode: str) -> None:
    made = render({"mode": mode})
    services = made.of("Service")
    asking = [("preprocess", "CONTROLLER"), ("controller", "TRITON")]
    for stage, name in [*asking, *([("postprocess", "CONTROLLER")] if mode != "Grouped" else [])]:
        host, _, port = made.environment(stage)[f"{stage.upper()}_{name}"].partition(":")
        assert int(port) in [each["port"] for each in services[host]["spec"]["ports"]]
    assert services["predictor"]["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("mode", MODES)
def test_a_second_release_in_the_namespace_shares_no_name(render: Render, mode: str) -> None:
    def names(name: str, release: str) -> set[tuple[str, str]]:
        made = render({"mode": mode, "fullnameOverride": name}, release=release)
        return {(each["kind"], each["metadata"]["name"]) for each in made.all}

    assert not names("", "one") & names("two", "two")


@pytest.mark.parametrize("mode", MODES)
def test_with_a_prefix_every_address_is_that_of_a_service_of_the_release(render: Render, mode: str) -> None:
    made = render({"mode": mode, "fullnameOverride": "two"})
    assert made.environment("preprocess")["PREPROCESS_CONTROLLER"] == "two-controller:9002"
    assert made.environment("controller")["CONTROLLER_TRITON"] == "two-predictor:8001"
