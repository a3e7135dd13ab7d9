"""IP families of the Services and of the addresses that containers listen on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.objects import Render, with_process

STAGES = ("preprocess", "postprocess", "controller")
BACKEND = {"backend": {"enabled": True}}


def test_without_a_word_the_cluster_decides_and_containers_listen_as_their_images_do(render: Render) -> None:
    made = render({"mode": "Deployment", **BACKEND})
    for service in made.of("Service").values():
        assert not {"ipFamilies", "ipFamilyPolicy"} & service["spec"].keys()
    for stage in STAGES:
        assert not any(name.endswith("_HOST") for name in made.environment(stage))
    assert not any("address" in argument for argument in made.container("predictor")["args"])


@pytest.mark.parametrize("mode", ["Deployment", "Standard", "Grouped"])
@pytest.mark.parametrize(
    "network",
    [
        {"ipFamilyPolicy": "RequireDualStack"},
        {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]},
        {"ipFamilies": ["IPv6"]},
    ],
)
def test_with_ipv6_every_service_says_so_and_every_container_listens_on_it(
    render: Render, mode: str, network: dict[str, Any]
) -> None:
    made = render({"mode": mode, "network": network, **(BACKEND if mode == "Deployment" else {})})
    for service in made.of("Service").values():
        assert {name: service["spec"].get(name) for name in network} == network
    for stage in with_process(mode, STAGES):
        assert made.environment(stage)[f"{stage.upper()}_HOST"] == "::"
    arguments = made.container("predictor")["args"]
    assert "--grpc-address=[::]" in arguments
    assert ("--metrics-address=ipv6:::" in arguments) == (network.get("ipFamilies") == ["IPv6"])


def test_the_backend_listens_on_ipv6_too(render: Render) -> None:
    made = render({"mode": "Deployment", "network": {"ipFamilies": ["IPv6"]}, **BACKEND})
    (container,) = made.of("Deployment")["backend"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "BACKEND_HOST", "value": "::"} in container["env"]


def test_ipv4_alone_changes_no_listening_address(render: Render) -> None:
    made = render({"mode": "Deployment", "network": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}})
    assert made.one("Service", "preprocess")["spec"]["ipFamilies"] == ["IPv4"]
    assert "PREPROCESS_HOST" not in made.environment("preprocess")
