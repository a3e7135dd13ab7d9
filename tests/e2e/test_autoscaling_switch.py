"""Autoscaling is switched on and off under running pods: none of them is replaced, by Helm and by kubectl apply."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from local.environments import ROOT
from tests.e2e.documented_commands import blocks
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


def assert_kept(release: Release, deployment: str, pods: frozenset[str], more: int = 0) -> frozenset[str]:
    """All these pods are still there, none is terminating, and there are `more` beside them. Returns all."""
    wait_for(lambda: observed(release, deployment), f"Deployment {deployment} has been acted on", 60)
    release.wait_until_settled(STAGE, len(pods) + more)
    now = release.uids(STAGE)
    assert pods <= now
    return now


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["Deployment", "Standard"])
def test_helm_replaces_no_pod(new_release: Callable[[str, str], Release], mode: str) -> None:
    release = new_release(f"switch-{mode}", mode)
    deployment = STAGE if mode == "Deployment" else f"{STAGE}-predictor"
    release.apply(FIXED)
    release.wait_until_settled(STAGE, REPLICAS)
    pods = release.uids(STAGE)
    release.apply(SCALED)
    wait_for(lambda: acted(release), "the autoscaler has acted", 120)
    assert_kept(release, deployment, pods)
    # As the autoscaler does it under load.
    release.kubectl("scale", f"deployment/{deployment}", f"--replicas={REPLICAS + 1}")
    pods = assert_kept(release, deployment, pods, more=1)
    release.apply(SCALED | {"controller": {"podLabels": {"upgrade": "unrelated"}}})
    assert_kept(release, deployment, pods)
    more = {STAGE: {"replicas": REPLICAS + 2}}
    release.apply(more)
    wait_for(lambda: no_autoscaler(release), "the autoscaler is gone", 60)
    assert_kept(release, deployment, pods, more=1)


def rendered(release: Release, values: dict[str, Any]) -> str:
    """The objects of a release, rendered without a cluster."""
    options = [f"{name}={value}" for name, value in values.items()]
    return program.run(
        *("template", NAME, str(program.CHART), f"--namespace={release.kubectl.namespace}", "--skip-tests"),
        *("--kube-version=1.34", "--set", ",".join(["mode=Deployment", f"tag={release.tag}", *options])),
    )


RENDERED_FIXED = {"postprocess.replicas": REPLICAS, "predictor.modelControl.restricted": "false"}
RENDERED_SCALED = RENDERED_FIXED | {"postprocess.autoscaling.maxReplicas": 6}


def run_documented(release: Release, label: str) -> None:
    """Run commands of operations.md in the namespace of the test."""
    command = re.sub(r"-n triptych\b", f"-n {release.kubectl.namespace}", blocks(PAGE)[label])
    environment = os.environ | {"KUBECONFIG": str(release.kubectl.kubeconfig)}
    shell = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=60)
    assert not done.returncode, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_render_without_a_cluster_replaces_no_pod_after_the_documented_command(
    new_release: Callable[[str, str], Release], side: str
) -> None:
    release = new_release("switch-gitops", "Deployment")
    apply = ("apply", f"--server-side={'true' if side == 'server' else 'false'}", "--filename=-")
    release.kubectl(*apply, given=rendered(release, RENDERED_FIXED))
    release.wait_until_settled(STAGE, REPLICAS)
    pods = release.uids(STAGE)
    run_documented(release, f"hand-over-{side}-side")
    release.kubectl(*apply, given=rendered(release, RENDERED_SCALED))
    wait_for(lambda: acted(release), "the autoscaler has acted", 120)
    assert_kept(release, STAGE, pods)
    release.kubectl("scale", f"deployment/{STAGE}", f"--replicas={REPLICAS + 1}")
    pods = assert_kept(release, STAGE, pods, more=1)
    release.kubectl(*apply, given=rendered(release, RENDERED_SCALED))
    assert_kept(release, STAGE, pods)
