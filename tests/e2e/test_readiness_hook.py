"""The hook that waits for every stage: with it an upgrade that never becomes ready is taken back, also with KServe."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.e2e.canaries import small
from tests.e2e.conftest import Figure
from tests.e2e.kubectl import wait_for
from tests.e2e.release import NAME, STAGES, START_S, Release, seconds
from tools.chart import program

HOOK = "readiness-hook"
VERBOSE = {"settings": {"log_level": "DEBUG"}}
TAKE_BACK = {"helm3": "--atomic", "helm4": "--rollback-on-failure"}


def hooked(timeout_s: int, **more: Any) -> dict[str, Any]:
    return {"readinessHook": {"enabled": True, "timeoutSeconds": timeout_s}} | small() | more


def missing(stage: str) -> dict[str, Any]:
    """Values of a stage whose image is not there."""
    return small(**{stage: {"image": "triptych/missing:1"}})[stage]  # type: ignore[no-any-return]


def safely(release: Release, action: str, values: dict[str, Any]) -> tuple[bool, str]:
    """Install or upgrade with the flag that takes a failure back: whether it worked, and all that Helm says."""
    words = (action, NAME, str(program.CHART), "--values=-", TAKE_BACK[release.program])
    done = release.helm(*words, given=json.dumps(release.values(values)), check=False)
    return not done.returncode, done.stdout + done.stderr


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
    wait_for(lambda: {each: release.uids(each) for each in before} == before, "only the old pods are left", START_S)
    assert HOOK not in release.kubectl("get", "pods", "--output=name")

    worked, said = safely(release, "upgrade", hooked(150, postprocess=small(postprocess=VERBOSE)["postprocess"]))
    assert worked, said
    assert release.settled("postprocess", without=before["postprocess"])
    figure(f"{seconds(release.uninstall):.1f} s for helm uninstall")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_install_with_a_missing_image_leaves_nothing(new_release: Callable[[str, str], Release], helm: str) -> None:
    release = replace(new_release(f"hook-install-{helm}", "Standard"), program=helm)
    worked, said = safely(release, "install", hooked(5, postprocess=missing("postprocess")))
    assert not worked
    assert "inferenceservice/postprocess" in said
    wait_for(lambda: not release.objects(), "nothing is left", START_S)
