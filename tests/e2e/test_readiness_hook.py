"""The hook that waits for every stage: with it an upgrade that never becomes ready is taken back, also with KServe."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.e2e.canaries import served, small
from tests.e2e.conftest import Figure
from tests.e2e.kubectl import wait_for
from tests.e2e.release import NAME, STAGES, START_S, Release, is_ready, seconds, uid
from tools.chart import program

HOOK = "readiness-hook"
VERBOSE = {"settings": {"log_level": "DEBUG"}}
# The flags of operations.md. Without --wait=legacy Helm 4 waits for the condition Ready before it calls the hook.
TAKE_BACK = {"helm3": ("--atomic",), "helm4": ("--rollback-on-failure", "--wait=legacy")}


def hooked(timeout_s: int, **more: Any) -> dict[str, Any]:
    return {"readinessHook": {"enabled": True, "timeoutSeconds": timeout_s}} | small() | more


def missing(stage: str) -> dict[str, Any]:
    """Values of a stage whose image is not there."""
    return small(**{stage: {"image": "triptych/missing:1"}})[stage]  # type: ignore[no-any-return]


def safely(release: Release, action: str, values: dict[str, Any]) -> tuple[bool, str]:
    """Install or upgrade with the flags that take a failure back: whether it worked, and all that Helm says."""
    words = (action, NAME, str(program.CHART), "--values=-", *TAKE_BACK[release.program], "--timeout=3m")
    done = release.helm(*words, given=json.dumps(release.values(values)), check=False)
    return not done.returncode, done.stdout + done.stderr


def ready_images(release: Release) -> set[str]:
    """Images of the ready pods of preprocess."""
    return {pod["spec"]["containers"][0]["image"] for pod in release.pods("preprocess") if is_ready(pod)}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_an_upgrade_with_a_missing_image_is_taken_back(
    new_release: Callable[[str, str], Release], helm: str, mode: str, figure: Figure
) -> None:
    release = replace(new_release(f"hook-{mode}-{helm}", mode), program=helm)
    release.apply(hooked(150))
    assert all(release.settled(component) for component in (*STAGES, "controller"))  # the hook has waited
    before = {component: release.uids(component) for component in STAGES}

    worked, said = safely(release, "upgrade", hooked(15, preprocess=missing("preprocess")))
    figure(f"Helm says: {said[:2000]}")
    assert not worked
    assert "inferenceservice/preprocess" in said
    assert "triptych/missing:1" in said
    found = release.kubectl.get("inferenceservice", "preprocess")["spec"]["predictor"]["containers"][0]
    assert found["image"] == f"triptych/preprocess:{release.tag}"
    status = json.loads(release.helm("status", NAME, "--output=json").stdout)["info"]
    assert (status["status"], "Rollback" in status["description"]) == ("deployed", True)
    if mode == "Standard":
        wait_for(lambda: {each: release.uids(each) for each in before} == before, "only the old pods are left", START_S)
    else:  # Knative makes another revision of the old spec, and keeps the pod of the failed one for 10 minutes
        wait_for(lambda: ready_images(release) == {found["image"]}, "pods of the old image serve", START_S)
    assert HOOK not in release.kubectl("get", "pods", "--output=name")

    worked, said = safely(release, "upgrade", hooked(150, postprocess=small(postprocess=VERBOSE)["postprocess"]))
    assert worked, said
    ready = {uid(pod) for pod in release.pods("postprocess") if is_ready(pod)}
    assert ready - before["postprocess"]  # an old one may still be ending, and Knative keeps it for a minute
    figure(f"{seconds(release.uninstall):.1f} s for helm uninstall")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_install_with_a_missing_image_leaves_nothing(new_release: Callable[[str, str], Release], helm: str) -> None:
    release = replace(new_release(f"hook-install-{helm}", "Standard"), program=helm)
    worked, said = safely(release, "install", hooked(5, postprocess=missing("postprocess")))
    assert not worked
    assert "inferenceservice/postprocess" in said
    wait_for(lambda: not release.objects(), "nothing is left", START_S)


# What Helm 4 waits for by itself: the condition Ready of every object that has one, but KServe keeps it over a change.
WAITING = ("--rollback-on-failure", "--timeout=60s")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_helm_4_waits_for_conditions_of_which_kserve_changes_none(new_release: Callable[[str, str], Release]) -> None:
    """hrishikeshdkakkad/fluidbox#208, helm#32615"""
    if program.find("helm4") is None:
        pytest.skip("needs helm4: python3 -m local.programs helm4")
    release = replace(new_release("helm-4-waits", "Standard"), program="helm4")
    bad = small(preprocess={"image": "triptych/missing:1"})

    def said(action: str, values: dict[str, Any], *options: str) -> tuple[bool, str]:
        words = (action, NAME, str(program.CHART), "--values=-", *(options or WAITING))
        done = release.helm(*words, given=json.dumps(release.values(values)), check=False)
        return not done.returncode, done.stderr

    worked, sentence = said("install", bad)
    assert not worked
    assert f"InferenceService/{release.kubectl.namespace}/preprocess not ready" in sentence
    worked, sentence = said("install", small(), "--wait", f"--timeout={START_S:g}s")
    assert worked, sentence
    assert all(release.settled(component) for component in (*STAGES, "controller"))
    worked, sentence = said("upgrade", bad)
    assert worked, "without the hook nothing is taken back"
    worked, sentence = said("upgrade", small() | {"servedModels": [served((9, 100))]})
    assert not worked
    assert "has no valid version 9" in sentence
