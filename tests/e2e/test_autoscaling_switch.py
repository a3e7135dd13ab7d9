"""Autoscaling is switched on and off under running pods, by Helm and by kubectl apply: there are never fewer."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local.environments import ROOT
from tests.e2e.documented_commands import run_block
from tests.e2e.kubectl import wait_for
from tests.e2e.release import NAME, Release
from tools.chart import program

PAGE = ROOT / "docs/guides/operations.md"
STAGE = "postprocess"
REPLICAS = 4
FIXED: dict[str, Any] = {STAGE: {"replicas": REPLICAS}}
# The CPU target is beyond what idle pods use, so the autoscaler wants the minimum.
SCALED: dict[str, Any] = {STAGE: {"replicas": REPLICAS, "autoscaling": {"maxReplicas": 6, "cpuPercent": 100}}}


def acted(release: Release) -> bool:
    """Whether the autoscaler has read its Deployment."""
    found = release.kubectl.run("get", "horizontalpodautoscaler", STAGE, "--output=jsonpath={.status}", check=False)
    return "currentReplicas" in found.stdout


def no_autoscaler(release: Release) -> bool:
    return bool(release.kubectl.run("get", "horizontalpodautoscaler", STAGE, check=False).returncode)


def observed(release: Release, deployment: str) -> bool:
    """Whether the newest Deployment has been acted on."""
    found = release.kubectl.get("deployment", deployment)
    return bool(found["status"].get("observedGeneration") == found["metadata"]["generation"])


@contextmanager
def replicas_of(release: Release, deployment: str, folder: Path) -> Iterator[Callable[[], list[int]]]:
    """Watch a Deployment, and give the replicas that it has had."""
    file = folder / "replicas"
    command = ["kubectl", f"--kubeconfig={release.kubectl.kubeconfig}", f"--namespace={release.kubectl.namespace}"]
    command += ["get", "deployment", deployment, "--watch", r'--output=jsonpath={.spec.replicas}{"\n"}']
    with file.open("w") as output:
        watch = subprocess.Popen(command, stdout=output)
    try:
        wait_for(lambda: file.stat().st_size > 0, f"the watch of {deployment} has begun")
        yield lambda: [int(line) for line in file.read_text().split()]
    finally:
        watch.terminate()
        watch.wait(20)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["Deployment", "Standard"])
def test_with_helm_there_are_never_fewer(new_release: Callable[[str, str], Release], mode: str, tmp_path: Path) -> None:
    release = new_release(f"switch-{mode}", mode)
    deployment = STAGE if mode == "Deployment" else f"{STAGE}-predictor"
    release.apply(FIXED)
    release.wait_until_settled(STAGE, REPLICAS)
    pods = release.uids(STAGE)
    with replicas_of(release, deployment, tmp_path) as seen:
        release.apply(SCALED)
        wait_for(lambda: acted(release), "the autoscaler has acted", 120)
        # As the autoscaler does it under load.
        release.kubectl("scale", f"deployment/{deployment}", f"--replicas={REPLICAS + 1}")
        release.apply(SCALED | {"controller": {"podLabels": {"upgrade": "unrelated"}}})
        wait_for(lambda: observed(release, deployment), "the Deployment has been acted on", 60)
        release.apply({STAGE: {"replicas": REPLICAS + 2}})
        wait_for(lambda: seen()[-1] == REPLICAS + 2, "the replicas are fixed again", 60)
        wait_for(lambda: no_autoscaler(release), "the autoscaler is gone", 60)
        assert min(seen()) == REPLICAS
    release.wait_until_settled(STAGE, REPLICAS + 2)
    # KServe writes its class of autoscalers into the pods, and so replaces them one after the other.
    assert mode == "Standard" or pods <= release.uids(STAGE)


def rendered(release: Release, values: dict[str, Any]) -> str:
    """The objects of a release, rendered without a cluster."""
    options = [f"{name}={value}" for name, value in values.items()]
    return program.run(
        *("template", NAME, str(program.CHART), f"--namespace={release.kubectl.namespace}", "--skip-tests"),
        *("--kube-version=1.34", "--set", ",".join(["mode=Deployment", f"tag={release.tag}", *options])),
    )


RENDERED_FIXED = {"postprocess.replicas": REPLICAS, "predictor.modelControl.restricted": "false"}
RENDERED_SCALED = RENDERED_FIXED | {"postprocess.autoscaling.maxReplicas": 6}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("side", ["client", "server"])
def test_with_a_render_there_are_never_fewer_after_the_documented_command(
    new_release: Callable[[str, str], Release], side: str, tmp_path: Path
) -> None:
    release = new_release("switch-gitops", "Deployment")
    apply = ("apply", f"--server-side={'true' if side == 'server' else 'false'}", "--filename=-")
    release.kubectl(*apply, given=rendered(release, RENDERED_FIXED))
    release.wait_until_settled(STAGE, REPLICAS)
    pods = release.uids(STAGE)
    run_block(release, PAGE, f"hand-over-{side}-side")
    with replicas_of(release, STAGE, tmp_path) as seen:
        release.kubectl(*apply, given=rendered(release, RENDERED_SCALED))
        wait_for(lambda: acted(release), "the autoscaler has acted", 120)
        release.kubectl("scale", f"deployment/{STAGE}", f"--replicas={REPLICAS + 1}")
        release.kubectl(*apply, given=rendered(release, RENDERED_SCALED))
        wait_for(lambda: observed(release, STAGE), "the Deployment has been acted on", 60)
        wait_for(lambda: seen()[-1] == REPLICAS + 1, "the watch has seen the autoscaler's replicas")
        assert min(seen()) == REPLICAS
    assert pods <= release.uids(STAGE)
