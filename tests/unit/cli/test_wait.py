"""`triptych wait`: what is missing is said, and a change that KServe has not applied yet does not pass for ready."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import pytest

from controller.kubernetes.api import ApiNotFound, ApiUnavailable, Json, Kind
from controller.kubernetes.blocking import BlockingApi
from triptych_cli.wait.command import run
from triptych_cli.wait.workloads import DIGEST, NOT_APPLIED, NOT_MADE, Workload, parse_workload, unfinished

ENTRY, CONTROLLER = Workload("inferenceservice", "preprocess"), Workload("deployment", "controller")
MODE = "serving.kserve.io/deploymentMode"


def deployment(digest: str = "", generation: int = 2, **status: int) -> Json:
    """A Deployment of two replicas that is rolled out, unless its status says otherwise."""
    done = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    return {
        "metadata": {"generation": generation},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "preprocess"}},
            "template": {"metadata": {"annotations": {DIGEST: digest}}},
        },
        "status": done | status,
    }


def inference_service(mode: str = "Standard") -> Json:
    return {"metadata": {"annotations": {MODE: mode}}, "spec": {"predictor": {"annotations": {DIGEST: "new"}}}}


def knative_service(digest: str = "new", ready: str = "True", latest_ready: str = "preprocess-2") -> Json:
    return {
        "metadata": {"generation": 2},
        "spec": {"template": {"metadata": {"annotations": {DIGEST: digest}}}},
        "status": {
            "observedGeneration": 2,
            "latestCreatedRevisionName": "preprocess-2",
            "latestReadyRevisionName": latest_ready,
            "conditions": [{"type": "Ready", "status": ready, "message": "Unable to fetch image"}],
        },
    }


class Cluster:
    """Objects by kind and name, and pods; each look may find others."""

    def __init__(self, objects: dict[tuple[str, str], Json], pods: Sequence[Json] = ()) -> None:
        self.objects, self._pods, self.down = objects, pods, False

    def api(self) -> BlockingApi:
        return cast(BlockingApi, self)

    def get(self, kind: Kind, name: str) -> Json:
        if self.down:
            raise ApiUnavailable("connection refused")
        if (kind.plural, name) not in self.objects:
            raise ApiNotFound(f"no {kind.plural} {name}")
        return copy.deepcopy(self.objects[kind.plural, name])

    def pods(self, namespace: str, selector: str, *, running: bool = True) -> Sequence[Json]:
        assert (selector, running) == ("app=preprocess", False)
        return self._pods


def entry(made: Json, mode: str = "Standard", pods: Sequence[Json] = ()) -> BlockingApi:
    kind = "services" if mode == "Knative" else "deployments"
    objects = {("inferenceservices", "preprocess"): inference_service(mode), (kind, "preprocess-predictor"): made}
    return Cluster(objects, pods).api()


def pod(**status: Any) -> Json:
    return {"metadata": {"name": "preprocess-1"}, "status": status}


def test_a_deployment_that_is_rolled_out_is_ready() -> None:
    assert unfinished(entry(deployment("new")), "here", ENTRY) == ""


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (deployment("old"), NOT_APPLIED),
        (deployment("new", generation=3), "its pods have not been changed yet"),
        (deployment("new", updatedReplicas=1), "1 of 2 pods are new, 1 are old, 2 of all are available"),
        (deployment("new", replicas=3), "2 of 2 pods are new, 1 are old, 2 of all are available"),
        (deployment("new", availableReplicas=1), "2 of 2 pods are new, 0 are old, 1 of all are available"),
    ],
)
def test_what_is_missing_is_said(made: Json, reason: str) -> None:
    assert unfinished(entry(made), "here", ENTRY) == reason


def test_what_kserve_has_not_made_yet_is_waited_for() -> None:
    cluster = Cluster({("inferenceservices", "preprocess"): inference_service()})
    assert unfinished(cluster.api(), "here", ENTRY) == NOT_MADE


def test_the_kubelets_and_the_schedulers_words_are_passed_on() -> None:
    image = {"name": "kserve-container", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    starting = {"name": "models", "state": {"waiting": {"reason": "PodInitializing"}}}
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}
    pods = [pod(containerStatuses=[image], initContainerStatuses=[starting]), pod(conditions=[unscheduled]), pod()]
    reason = unfinished(entry(deployment("new", updatedReplicas=1), pods=pods), "here", ENTRY)
    assert "preprocess-1: kserve-container: ErrImagePull: not found; preprocess-1: Insufficient cpu" in reason
    assert "models" not in reason


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (knative_service(), ""),
        (knative_service(digest="old"), NOT_APPLIED),
        (knative_service(ready="False"), "Unable to fetch image"),
        (knative_service(latest_ready="preprocess-1"), "Unable to fetch image"),
    ],
)
def test_in_knative_mode_the_newest_revision_counts(made: Json, reason: str) -> None:
    assert unfinished(entry(made, "Knative"), "here", ENTRY) == reason


def test_the_command_waits_for_all_and_prints_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster({("deployments", "controller"): deployment(updatedReplicas=1)}, [])
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        cluster.down = len(slept) == 2
        if len(slept) == 3:
            cluster.objects["deployments", "controller"] = deployment()

    assert run(cluster.api(), "here", [CONTROLLER], 60, sleep) == 0
    counts = "1 of 2 pods are new, 1 are old, 2 of all are available"
    lines = (counts, "cannot be read: connection refused", "ready")
    assert capsys.readouterr().out.splitlines() == [f"deployment/controller: {line}" for line in lines]


def test_the_command_names_what_is_late(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster({("deployments", "controller"): deployment()})
    assert run(cluster.api(), "here", [CONTROLLER, Workload("deployment", "gone")], -1) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "not ready after -1 s: deployment/gone"


@pytest.mark.parametrize("text", ["controller", "pod/controller", "deployment/"])
def test_a_workload_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="want deployment/NAME or inferenceservice/NAME"):
        parse_workload(text)
