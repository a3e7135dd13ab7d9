"""The progress of a workload towards its spec: what `kubectl rollout status` computes, also for what KServe makes.

An InferenceService is no help by itself: it stays Ready over a change, because KServe changes the Deployment or the
Knative Service a moment later. So the chart writes a digest of the pod into an annotation, which KServe copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from controller.kubernetes.api import ApiNotFound, Json, Kind, part
from controller.kubernetes.blocking import BlockingApi

DIGEST = "triptych.dev/pod-digest"
NOT_MADE = "KServe has not created its Deployment or Knative Service yet"
NOT_APPLIED = "KServe has not applied its latest change yet"
NOT_OBSERVED = "Kubernetes has not acted on its latest change yet"
STARTING = ("ContainerCreating", "PodInitializing")
MAX_PODS = 3  # named in one reason


class Workload(NamedTuple):
    """A Deployment or an InferenceService, written as `deployment/controller`."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def parse_workload(text: str) -> Workload:
    """Parse `kind/name`. Raises `ValueError`."""
    kind, _, name = text.partition("/")
    if kind not in ("deployment", "inferenceservice") or not name:
        raise ValueError(f"want deployment/NAME or inferenceservice/NAME, got '{text}'")
    return Workload(kind, name)


def unfinished(api: BlockingApi, namespace: str, workload: Workload) -> str:
    """Why a workload is not ready; empty if all its pods are of the latest spec, and available. Raises `ApiError`."""
    try:
        if workload.kind == "deployment":
            return _deployment(api, namespace, workload.name, digest="")
        found = api.get(Kind("serving.kserve.io", "v1beta1", namespace, "inferenceservices"), workload.name)
    except ApiNotFound:
        return f"there is none in namespace '{namespace}': compare with `kubectl -n {namespace} get {workload.kind}s`"
    return _inference_service(api, namespace, workload.name, found)


def _inference_service(api: BlockingApi, namespace: str, name: str, found: Json) -> str:
    digest = str(part(part(part(found, "spec"), "predictor"), "annotations").get(DIGEST, ""))
    mode = part(part(found, "metadata"), "annotations").get("serving.kserve.io/deploymentMode")
    progress = _knative_service if mode == "Knative" else _deployment
    try:
        return progress(api, namespace, f"{name}-predictor", digest)
    except ApiNotFound:
        return NOT_MADE


def _deployment(api: BlockingApi, namespace: str, name: str, digest: str) -> str:
    found = api.get(Kind("apps", "v1", namespace, "deployments"), name)
    spec, status = part(found, "spec"), part(found, "status")
    if digest and digest != _digest_of(spec):
        return NOT_APPLIED
    wanted, made = spec.get("replicas", 1), status.get("replicas", 0)
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
        return NOT_OBSERVED
    if updated >= wanted and made <= updated <= available:
        return ""
    got = f"got {updated} updated and {made - updated} old, {available} available"
    refused = [str(each.get("message")) for each in _conditions(found) if _is(each, "ReplicaFailure", "True")]
    reasons = _reasons(api, namespace, part(part(spec, "selector"), "matchLabels"))
    return "; ".join([f"want {wanted} updated pods, all available, {got}", *refused, *reasons])


def _knative_service(api: BlockingApi, namespace: str, name: str, digest: str) -> str:
    found = api.get(Kind("serving.knative.dev", "v1", namespace, "services"), name)
    status = part(found, "status")
    if digest and digest != _digest_of(part(found, "spec")):
        return NOT_APPLIED
    if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
        return NOT_OBSERVED
    ready: Json = next((each for each in _conditions(found) if each.get("type") == "Ready"), {})
    newest = status.get("latestCreatedRevisionName")
    if ready.get("status") == "True" and newest == status.get("latestReadyRevisionName"):
        return ""
    said = str(ready.get("message") or f"revision {newest} is not ready yet")
    return "; ".join([said, *_reasons(api, namespace, {"serving.knative.dev/revision": newest})])


def _digest_of(spec: Json) -> str:
    return str(part(part(part(spec, "template"), "metadata"), "annotations").get(DIGEST, ""))


def _conditions(found: Json) -> Sequence[Json]:
    conditions = part(found, "status").get("conditions")
    return conditions if isinstance(conditions, list) else []


def _is(condition: Json, kind: str, status: str) -> bool:
    return (condition.get("type"), condition.get("status")) == (kind, status)


def _reasons(api: BlockingApi, namespace: str, labels: Json) -> list[str]:
    """Why pods are not ready, in the words of the scheduler, the kubelet and the containers."""
    selector = ",".join(f"{name}={value}" for name, value in labels.items())
    pods = api.pods(namespace, selector, running=False)
    return [f"pod {pod['metadata']['name']}: {reason}" for pod in pods for reason in _waiting(pod)][:MAX_PODS]


def _waiting(pod: Json) -> Iterator[str]:
    status = part(pod, "status")
    for condition in _conditions(pod):
        if _is(condition, "PodScheduled", "False"):
            yield f"not scheduled: {condition.get('message', '')}"
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = part(part(container, "state"), "waiting")
        if waiting and waiting.get("reason") not in STARTING:
            said = ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"), _last_words(container))))
            yield f"container {container['name']}: {said}"
        elif part(part(container, "state"), "running") and container.get("started") and not container.get("ready"):
            yield f"container {container['name']}: it runs, and its readiness probe fails"


def _last_words(container: Json) -> str:
    """Why a container ended that is to be started again; empty if it has not run."""
    ended = part(part(container, "lastState"), "terminated")
    if not ended:
        return ""
    words = str(ended.get("message") or ended.get("reason") or "").strip().rpartition("\n")[2]
    return f"it ended with {ended.get('exitCode')}: {words}"
