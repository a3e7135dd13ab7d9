"""Life of a release: from `helm install` to an empty namespace, and upgrades that must fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from local.environments import ROOT
from local.examples import FILE
from tests.e2e.conftest import Figure
from tests.e2e.kubectl import wait_for
from tests.e2e.load import CheckedRequest, Load
from tests.e2e.release import STAGES, START_S, Release, seconds
from tests.integration.conftest import Caller
from tests.integration.load import answers
from tests.integration.messages import infer_request, objects, outputs_of, sales

MODELS = sorted(folder.parent.name for folder in (ROOT / "model-repository").glob("*/config.pbtxt"))
PICTURES = FILE.parent
WORDS = {
    "digits_de": ("three_note.png", "drei"),
    "digits_es": ("nine_800x600.jpg", None),
    "digits_fr": ("four_squared.jpg", "quatre"),
    "digits_gb": ("seven_640x480.jpg", None),
    "digits_jp": ("eight_board.png", "八"),
}
SALES = infer_request("sales_forecast_de", sales())
# What is installed beside the stack, by mode; `helm test` has two checks of it.
MORE: dict[str, dict[str, Any]] = {"Deployment": {"backend": {"enabled": True}}}


def request_for(model: str) -> pb.ModelInferRequest:
    if model in WORDS:
        return infer_request(model, {"image": objects((PICTURES / WORDS[model][0]).read_bytes())})
    return infer_request(model, sales(rows=2, seed=len(model)))


def assert_right(model: str, answer: pb.ModelInferResponse) -> None:
    assert answer.model_name == model
    outputs = outputs_of(answer)
    if model in WORDS:
        word = WORDS[model][1]
        assert len(outputs["label"][0]) == 3
        assert word is None or outputs["label"][0][0] == word.encode()
    else:
        assert np.shape(outputs["units"]) == (2, 7)
        assert outputs["total"] == [sum(row) for row in outputs["units"]]


def ask_for_every_model(caller: Caller) -> None:
    for model in MODELS:
        assert_right(model, caller.infer(request_for(model), timeout_s=60))


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("mode", ["Standard", "Knative", "Grouped", "Deployment"])
def test_a_release_answers_for_every_model_and_leaves_nothing(
    new_release: Callable[[str, str], Release], mode: str, figure: Figure
) -> None:
    release, more = new_release(f"install-{mode}", mode), MORE.get(mode, {})
    assert release.objects() == []
    start = time.monotonic()
    release.apply(more)
    inside = wait_for(lambda: _endpoint_caller(release), "the endpoint is there", START_S)
    wait_for(lambda: answers(inside, SALES), "the first answer", START_S)
    figure(f"{time.monotonic() - start:.1f} s from helm install to the first answer")
    start = time.monotonic()
    said = release.helm_test()
    figure(f"{time.monotonic() - start:.1f} s for helm test")
    checks = 7 if more else 5
    assert said.count("TEST SUITE:     test-") == said.count("Succeeded") - 1 == checks, (
        said
    )  # 1: the ConfigMap that they share
    outside = release.gateway().caller()
    wait_for(lambda: answers(outside, SALES), "the gateway knows the way", 60)
    for where, caller in (("inside", inside), ("the gateway", outside)):
        figure(f"{seconds(partial(ask_for_every_model, caller)):.1f} s for {len(MODELS)} models, by {where}")
        caller.channel.close()
    figure(f"{seconds(release.uninstall):.1f} s for helm uninstall")
    wait_for(lambda: not release.objects(), "nothing is left", START_S)


def _endpoint_caller(release: Release) -> Caller | None:
    """A client of the release; None until its objects exist."""
    try:
        return release.service().caller()
    except AssertionError:
        return None


@pytest.fixture(scope="module")
def serving(new_release: Callable[[str, str], Release]) -> Iterator[Release]:
    """A release that answers; tests that break an upgrade repair it."""
    release = new_release("broken-upgrades", "Standard")
    release.apply()
    for component in (*STAGES, "controller"):
        release.wait_until_settled(component)
    yield release
    release.uninstall()


BROKEN: dict[str, tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = {
    "an image that is not there": (
        {"preprocess": {"image": "triptych/preprocess:missing"}},
        ("preprocess",),
        ("Failed to pull", "triptych/preprocess:missing"),
    ),
    "a model store that is not there": (
        {"models": {"store": "pvc", "claim": "missing"}},
        ("predictor", "controller"),
        ('persistentvolumeclaim "missing" not found',),
    ),
    "more memory than there is": (
        {"postprocess": {"resources": {"requests": {"memory": "900Gi"}, "limits": {"memory": "900Gi"}}}},
        ("postprocess",),
        ("Insufficient memory",),
    ),
    "a GPU where there is none": (
        {"predictor": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}},
        ("predictor",),
        ("Insufficient nvidia.com/gpu",),
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", BROKEN)
def test_an_upgrade_that_cannot_work_says_why_and_what_served_goes_on(
    serving: Release, name: str, figure: Figure
) -> None:
    values, components, words = BROKEN[name]
    before = {component: serving.uids(component) for component in components}
    checked = CheckedRequest.of(serving.service().caller(), SALES)
    with Load([serving.service(), serving.gateway()], [checked], per_second=20) as load:
        start = time.monotonic()
        serving.apply(values)
        message = serving.wait_for_event(*words)
        figure(f"after {time.monotonic() - start:.1f} s: {message.splitlines()[0][:140]}")
        load.wait_for_answers(50)
        assert all(before[component] <= serving.uids(component) for component in components)
        serving.apply()
        wait_for(lambda: {each: serving.uids(each) for each in before} == before, "only the old pods are left", START_S)
    figure(load.account)
    load.assert_nothing_was_lost()
