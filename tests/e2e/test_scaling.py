"""Autoscaling of each stage alone: on CPU in Standard mode, from and to zero in Knative mode."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from local.examples import FILE
from tests.e2e.conftest import Figure
from tests.e2e.kubectl import wait_for
from tests.e2e.load import CheckedRequest, Load
from tests.e2e.release import STAGES, START_S, Release
from tests.integration.load import answers
from tests.integration.messages import infer_request, objects

PICTURE = infer_request("digits_gb", {"image": objects((FILE.parent / "seven_640x480.jpg").read_bytes())})
MOST = 3


def autoscaled(cpu: str, percent: int) -> dict[str, Any]:
    scaling = {"maxReplicas": MOST, "cpuPercent": percent, "scaleDownAfterSeconds": 15}
    return {"autoscaling": scaling, "resources": {"requests": {"cpu": cpu, "memory": "128Mi"}}}


# All of them may grow. The requests are such that the work on pictures is much for one and little for the others.
ON_CPU = {
    "preprocess": autoscaled("100m", 60),
    "predictor": autoscaled("300m", 90),
    "postprocess": autoscaled("200m", 90),
}
# Knative looks back for 6 s, its least, and not for a minute.
FROM_ZERO: dict[str, Any] = {
    "preprocess": {"replicas": 0},
    "postprocess": {"replicas": 0},
    "podAnnotations": {"autoscaling.knative.dev/window": "6s"},
}


def measured_cpu(release: Release, component: str) -> str:
    """Utilisation that the autoscaler has last read, and its replica counts."""
    status = release.kubectl.get("horizontalpodautoscaler", component).get("status", {})
    metrics = status.get("currentMetrics") or [{}]
    read = metrics[0].get("resource", {}).get("current", {}).get("averageUtilization")
    return f"{component} {read} % in {status.get('currentReplicas')} pods"


def was_scaled(release: Release, component: str) -> bool:
    """Whether the autoscaler has ever changed the number of pods."""
    return "lastScaleTime" in release.kubectl.get("horizontalpodautoscaler", component)["status"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pictures_make_preprocess_grow_alone_and_nothing_is_lost_when_it_shrinks(
    new_release: Callable[[str, str], Release], figure: Figure
) -> None:
    release = new_release("scaling", "Standard")
    release.apply(ON_CPU)
    for stage in STAGES:
        release.wait_until_settled(stage)
    endpoints = [release.service(), release.gateway()]
    for endpoint in endpoints:
        wait_for(partial(answers, endpoint.caller(), PICTURE), f"{endpoint.name} answers", START_S)
    checked = CheckedRequest.of(endpoints[0].caller(), PICTURE)
    wait_for(lambda: "None %" not in measured_cpu(release, "preprocess"), "the autoscaler has read the CPU", START_S)
    start = time.monotonic()
    with Load(endpoints, [checked], per_second=40) as load:
        wait_for(lambda: release.settled("preprocess", MOST), f"{MOST} pods of preprocess", START_S)
        figure(f"1 to {MOST} pods of preprocess {time.monotonic() - start:.0f} s after the load began")
        figure("; ".join(measured_cpu(release, stage) for stage in STAGES))
    figure(load.account)
    load.assert_nothing_was_lost()
    start = time.monotonic()
    with Load(endpoints, [checked], per_second=5) as load:
        wait_for(lambda: release.settled("preprocess"), "one pod of preprocess", START_S)
        figure(f"back to 1 pod {time.monotonic() - start:.0f} s after it fell to an eighth")
    figure(f"while it shrank: {load.account}")
    load.assert_nothing_was_lost()
    assert [stage for stage in STAGES if was_scaled(release, stage)] == ["preprocess"]
    release.uninstall()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stages_go_to_zero_and_come_back_on_a_request(
    new_release: Callable[[str, str], Release], figure: Figure
) -> None:
    release = new_release("zero", "Knative")
    release.apply(FROM_ZERO)
    for part in ("predictor", "controller"):
        release.wait_until_settled(part)
    wait_for(lambda: ready(release), "both InferenceServices are ready", START_S)
    caller = release.gateway().caller()
    wait_for(lambda: answers(caller, PICTURE), "the first answer", START_S)
    checked = CheckedRequest.of(caller, PICTURE)
    for turn in ("first", "second"):
        start = time.monotonic()
        wait_for(lambda: not release.pods("preprocess") + release.pods("postprocess"), "no pod is left", START_S)
        figure(f"no pod of both stages {time.monotonic() - start:.0f} s after the last request")
        start = time.monotonic()
        answer = caller.infer(PICTURE, timeout_s=60)  # an error of any kind fails here
        figure(f"{time.monotonic() - start:.1f} s for the {turn} request from zero")
        assert checked.is_answered_by(answer)
    release.uninstall()


def ready(release: Release) -> bool:
    found = release.kubectl.get("inferenceservices")["items"]
    conditions = [
        {each["type"]: each["status"] for each in service.get("status", {}).get("conditions", ())} for service in found
    ]
    return len(conditions) == len(STAGES) and all(each.get("Ready") == "True" for each in conditions)
