"""`triptych wait`: what is missing is said, and a change that KServe has not applied yet does not pass for ready."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from controller.kubernetes.api import ApiNotFound, ApiUnavailable, Json, Kind
from controller.kubernetes.blocking import BlockingApi
from triptych_cli.wait.command import main, run
from triptych_cli.wait.workloads import (
    DIGEST,
    NOT_APPLIED,
    NOT_MADE,
    NOT_OBSERVED,
    Workload,
    parse_workload,
    unfinished,
)

ENTRY, CONTROLLER = Workload("inferenceservice", "preprocess"), Workload("deployment", "controller")
MODE = "serving.kserve.io/deploymentMode"
WANT = "want 2 updated pods, all available"


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
        assert selector in ("app=preprocess", "serving.knative.dev/revision=preprocess-2")
        assert not running
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
        (deployment("new", generation=3), NOT_OBSERVED),
        (deployment("new", updatedReplicas=1), f"{WANT}, got 1 updated and 1 old, 2 available"),
        (deployment("new", replicas=3), f"{WANT}, got 2 updated and 1 old, 2 available"),
        (deployment("new", availableReplicas=1), f"{WANT}, got 2 updated and 0 old, 1 available"),
    ],
)
def test_what_is_missing_is_said(made: Json, reason: str) -> None:
    assert unfinished(entry(made), "here", ENTRY) == reason


def test_what_kserve_has_not_made_yet_is_waited_for() -> None:
    cluster = Cluster({("inferenceservices", "preprocess"): inference_service()})
    assert unfinished(cluster.api(), "here", ENTRY) == NOT_MADE


def test_a_workload_that_is_not_there_is_said_with_the_command_that_lists_them() -> None:
    listed = "compare with `kubectl -n here get"
    cluster = Cluster({}).api()
    assert listed + " inferenceservices`" in unfinished(cluster, "here", ENTRY)
    assert listed + " deployments`" in unfinished(cluster, "here", CONTROLLER)


def container(name: str = "kserve-container", **more: Any) -> Json:
    return {"name": name} | more


MISSING_IMAGE = container(state={"waiting": {"reason": "ErrImagePull", "message": "not found"}})
STARTING = container("models", state={"waiting": {"reason": "PodInitializing"}})
CRASHED = container(
    state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
    lastState={"terminated": {"exitCode": 1, "message": "a log line\nwant a bucket\n"}},
)
KILLED = container(
    state={"waiting": {"reason": "CrashLoopBackOff"}},
    lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
)
NOT_READY = container(state={"running": {"startedAt": "today"}}, started=True, ready=False)
UNSCHEDULED = {"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"containerStatuses": [MISSING_IMAGE]}, "container kserve-container: ErrImagePull: not found"),
        ({"conditions": [UNSCHEDULED]}, "not scheduled: Insufficient cpu"),
        (
            {"initContainerStatuses": [CRASHED]},
            "container kserve-container: CrashLoopBackOff: back-off 10s: it ended with 1: want a bucket",
        ),
        (
            {"containerStatuses": [KILLED]},
            "container kserve-container: CrashLoopBackOff: it ended with 137: OOMKilled",
        ),
        ({"containerStatuses": [NOT_READY]}, "container kserve-container: it runs, and its readiness probe fails"),
    ],
)
def test_why_a_pod_is_not_ready_is_passed_on(status: Json, reason: str) -> None:
    made = deployment("new", updatedReplicas=1)
    assert unfinished(entry(made, pods=[pod(**status)]), "here", ENTRY).endswith(
        f"available; pod preprocess-1: {reason}"
    )


def test_a_pod_that_is_starting_needs_no_reason() -> None:
    pods = [pod(initContainerStatuses=[STARTING]), pod()]
    assert unfinished(entry(deployment("new", updatedReplicas=1), pods=pods), "here", ENTRY).endswith("2 available")


def test_a_quota_that_allows_no_pod_is_said() -> None:
    made = deployment("new", updatedReplicas=0)
    made["status"]["conditions"] = [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: team"}]
    assert unfinished(entry(made), "here", ENTRY).endswith("; exceeded quota: team")


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


def test_in_knative_mode_the_pods_of_the_newest_revision_say_more() -> None:
    """An image that is missing: Knative says only that a revision is awaited."""
    pods = [pod(containerStatuses=[MISSING_IMAGE])]
    reason = unfinished(entry(knative_service(ready="Unknown"), "Knative", pods), "here", ENTRY)
    assert reason.endswith("; pod preprocess-1: container kserve-container: ErrImagePull: not found")


def test_the_command_waits_for_all_and_prints_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster({("deployments", "controller"): deployment(updatedReplicas=1)}, [])
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        cluster.down = len(slept) == 2
        if len(slept) == 3:
            cluster.objects["deployments", "controller"] = deployment()

    assert run(cluster.api(), "here", [CONTROLLER], 60, sleep) == 0
    counts = f"{WANT}, got 1 updated and 1 old, 2 available"
    lines = (counts, "cannot be read: connection refused", "ready")
    assert capsys.readouterr().out.splitlines() == [f"deployment/controller: {line}" for line in lines]


def test_the_command_says_what_is_late_why_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster({("deployments", "controller"): deployment()})
    assert run(cluster.api(), "here", [CONTROLLER, Workload("deployment", "gone")], -1) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "deployment/controller: ready"
    assert said.err.startswith(
        "triptych wait: not ready after -1 s: deployment/gone: there is none in namespace 'here'"
    )
    assert said.err.endswith(
        "To do: see `kubectl -n here describe pods`, or raise --timeout (readinessHook.timeoutSeconds)\n"
    )


def test_without_a_kubeconfig_the_command_says_where_it_looks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--namespace", "here", "--kubeconfig", str(tmp_path / "none"), "deployment/controller"]
    assert main(words) == 2
    assert "want a kubeconfig: --kubeconfig FILE, KUBECONFIG or ~/.kube/config" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["controller", "pod/controller", "deployment/"])
def test_a_workload_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="want deployment/NAME or inferenceservice/NAME"):
        parse_workload(text)
