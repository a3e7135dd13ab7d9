"""The progress of a workload towards its spec: what `kubectl rollout status` computes, also for what KServe makes.

An InferenceService is no help by itself: it stays Ready over a change, because KServe changes the Deployment or the
Knative Service a moment later. So the chart writes a digest of the pod into an annotation, which KServe copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from controller.kubernetes.api import ApiNotFound, Json, Kind, part
from controller.kubernetes.blocking import BlockingApi

DIGEST = "triptych.dev/pod-digest"
NOT_MADE, NOT_APPLIED = "KServe has not made its pods yet", "KServe has not applied its spec yet"
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
    """Why the pods are not those of the spec, and ready; empty if they are. Raises `ApiError`."""
    if workload.kind == "deployment":
        return _deployment(api, namespace, workload.name, digest="")
    kind = Kind("serving.kserve.io", "v1beta1", namespace, "inferenceservices")
    found = api.get(kind, workload.name)
    digest = str(part(part(part(found, "spec"), "predictor"), "annotations").get(DIGEST, ""))
    mode = part(part(found, "metadata"), "annotations").get("serving.kserve.io/deploymentMode")
    progress = _knative_service if mode == "Knative" else _deployment
    try:
        return progress(api, namespace, f"{workload.name}-predictor", digest)
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
        return "its pods have not been changed yet"
    if updated >= wanted and made <= updated <= available:
        return ""
    counts = f"{updated} of {wanted} pods are new, {made - updated} are old, {available} of all are available"
    return "; ".join([counts, *_reasons(api, namespace, part(part(spec, "selector"), "matchLabels"))])


def _knative_service(api: BlockingApi, namespace: str, name: str, digest: str) -> str:
    found = api.get(Kind("serving.knative.dev", "v1", namespace, "services"), name)
    status = part(found, "status")
    if digest and digest != _digest_of(part(found, "spec")):
        return NOT_APPLIED
    if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
        return "its revision has not been made yet"
    ready: Json = next((each for each in status.get("conditions", ()) if each.get("type") == "Ready"), {})
    newest = status.get("latestCreatedRevisionName")
    if ready.get("status") == "True" and newest == status.get("latestReadyRevisionName"):
        return ""
    return str(ready.get("message") or f"revision {newest} is starting")


def _digest_of(spec: Json) -> str:
    return str(part(part(part(spec, "template"), "metadata"), "annotations").get(DIGEST, ""))


def _reasons(api: BlockingApi, namespace: str, labels: Json) -> list[str]:
    """Why pods do not start, in the words of the kubelet and the scheduler."""
    selector = ",".join(f"{name}={value}" for name, value in labels.items())
    pods = api.pods(namespace, selector, running=False)
    return [f"{pod['metadata']['name']}: {reason}" for pod in pods for reason in _waiting(pod)][:MAX_PODS]


def _waiting(pod: Json) -> Iterator[str]:
    status = part(pod, "status")
    for condition in status.get("conditions", ()):
        if (condition.get("type"), condition.get("status")) == ("PodScheduled", "False"):
            yield str(condition.get("message", ""))
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = part(part(container, "state"), "waiting")
        if waiting and waiting.get("reason") not in STARTING:
            yield f"{container['name']}: {waiting.get('reason')}: {waiting.get('message', '')}"
