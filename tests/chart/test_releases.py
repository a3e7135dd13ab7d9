"""Two releases in one namespace: each has its own names, objects and queries."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.chart.objects import Objects, Render

RELEASE = "triptych.dev/release"
TWO = {"fullnameOverride": "two"}
MODEL = {"model": "digits_gb", "traffic": [{"version": 1, "percent": 100}]}
QUEUED = {"autoscaling": {"maxReplicas": 4, "signal": "queue"}}


def pod_labels(made: Objects) -> dict[str, dict[str, str]]:
    """Labels of the pods of each Deployment and InferenceService."""
    deployments = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in made.of("Deployment").items()}
    services = {name: each["spec"]["predictor"]["labels"] for name, each in made.of("InferenceService").items()}
    return deployments | services


def test_a_controller_follows_the_objects_of_its_release(render: Render) -> None:
    assert "CONTROLLER_RELEASE" not in render().environment("controller")
    made = render(TWO)
    assert made.environment("controller")["CONTROLLER_RELEASE"] == "two"
    assert made.environment("controller")["CONTROLLER_LEASE"] == "two-controller"
    assert "two-controller" in made.of("Lease")


def test_objects_of_the_values_belong_to_the_release(render: Render) -> None:
    assert render({"servedModels": [MODEL]}).one("ServedModel", "digits-gb")["spec"] == MODEL
    made = render(TWO | {"servedModels": [MODEL]})
    assert made.one("ServedModel", "two-digits-gb")["spec"] == MODEL | {"release": "two"}


@pytest.mark.parametrize("mode", ["Standard", "Grouped", "Deployment"])
def test_pods_say_which_release_they_serve(render: Render, mode: str) -> None:
    assert not [name for name, labels in pod_labels(render({"mode": mode})).items() if RELEASE in labels]
    labels = pod_labels(render(TWO | {"mode": mode}))
    assert {each[RELEASE] for each in labels.values()} == {"two"}


def queries(made: Objects) -> dict[str, str]:
    return {name: each["spec"]["triggers"][0]["metadata"]["query"] for name, each in made.of("ScaledObject").items()}


PODS = {
    "Standard": "{}-predictor-5d8f9c7b6-x2x4z",
    "Deployment": "{}-5d8f9c7b6-x2x4z",
}


@pytest.mark.parametrize("mode", PODS)
@pytest.mark.parametrize("name", ["", "two", "predictor", "a" * 21])
def test_an_autoscaler_asks_for_the_pods_of_its_own_deployment(render: Render, mode: str, name: str) -> None:
    stages: dict[str, Any] = dict.fromkeys(("preprocess", "predictor", "postprocess"), QUEUED)
    made = render({"mode": mode, "fullnameOverride": name, "metrics": {"prometheus": "http://p:9090"}} | stages)
    own = f"{name}-" if name else ""
    for scaled, query in queries(made).items():
        patterns = re.findall(r'pod=~"([^"]+)"', query)
        assert len(patterns) == (2 if scaled.endswith("predictor") else 1)
        for pattern in patterns:
            stage = re.search("preprocess|postprocess|predictor", pattern.removeprefix(own))
            assert stage, pattern
            pod = PODS[mode].format(own + stage[0])
            assert re.fullmatch(pattern, pod[:58] + pod[-5:] if len(pod) > 63 else pod)
            for other in ("", "blue-", "predictor-", "preprocess-"):
                if other != own:
                    assert not re.fullmatch(pattern, PODS[mode].format(other + stage[0])), (pattern, other)
            assert not re.fullmatch(pattern, PODS[mode].format(f"{own}{stage[0]}-canary")), pattern
