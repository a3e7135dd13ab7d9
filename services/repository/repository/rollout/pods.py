"""Counters of the stages' pods, read through the API server, so that it works from outside of the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from prometheus_client.parser import text_string_to_metric_families

from repository.kubernetes.api import ApiError, Json
from repository.kubernetes.blocking import BlockingApi
from repository.rollout.counts import REQUESTS, SECONDS, Reading, Sample
from repository.rollout.signals import Endpoints, Signals, SignalsError

COMPONENT = "app.kubernetes.io/component"
REVISION = "serving.knative.dev/revision"
PORTS = {"preprocess": 9100, "postprocess": 9101}  # where the pod says nothing: Knative allows no second port
STAGE_SERIES = {"triptych_requests_total": REQUESTS, "triptych_request_seconds_bucket": SECONDS}


def model_signals(api: BlockingApi, namespace: str, model: str) -> Signals:
    """Of the versions of one model, from every preprocess and postprocess of a namespace."""

    def addresses() -> Sequence[str]:
        found = _pods(api, namespace, f"{COMPONENT} in (preprocess, postprocess, grouped)")
        return [address for pod in found for address in _addresses(pod)]

    return Endpoints(model, addresses, partial(_page, api, namespace))


class RevisionSignals:
    """Of the revisions of a stage's code: everything that the pods of each of them answered."""

    def __init__(self, api: BlockingApi, namespace: str, revisions: Sequence[str]) -> None:
        self._api, self._namespace, self._revisions = api, namespace, revisions

    def read(self) -> Reading:
        samples: list[Sample] = []
        origins, faults = set(), []
        for pod in _pods(self._api, self._namespace, f"{REVISION} in ({', '.join(self._revisions)})"):
            revision = pod["metadata"]["labels"][REVISION]
            for address in _addresses(pod)[:1]:
                try:
                    samples += _stage_samples(address, revision, _page(self._api, self._namespace, address))
                    origins.add(address)
                except OSError as error:
                    faults.append(f"{address}: {error}")
        if not origins:
            raise SignalsError(f"no pod of {' or '.join(self._revisions)} answers ({'; '.join(faults) or 'none runs'})")
        return Reading(samples, frozenset(origins))


def _stage_samples(address: str, revision: str, page: str) -> Iterator[Sample]:
    """The stage's own counters under the revision that made them."""
    for family in text_string_to_metric_families(page):
        for name, labels, value, *_ in family.samples:
            if counted := STAGE_SERIES.get(name):
                own = {"model_version" if key == "version" else key: text for key, text in labels.items()}
                yield Sample(address, counted, tuple(sorted({**own, "version": revision}.items())), value)


def _pods(api: BlockingApi, namespace: str, selector: str) -> Sequence[Json]:
    try:
        return api.pods(namespace, selector)
    except ApiError as error:
        raise SignalsError(f"the pods of '{namespace}' cannot be listed: {error}") from error


def _addresses(pod: Json) -> list[str]:
    """`pod:port` of each metrics endpoint: a port of that name, else what Prometheus is told, else the usual one."""
    metadata, named = pod["metadata"], []
    for container in pod["spec"]["containers"]:
        named += [port["containerPort"] for port in container.get("ports", ()) if port.get("name", "") == "metrics"]
    told = metadata.get("annotations", {}).get("prometheus.io/port")
    usual = PORTS.get(metadata.get("labels", {}).get(COMPONENT, ""), 9100)
    return [f"{metadata['name']}:{port}" for port in named or [told or usual]]


def _page(api: BlockingApi, namespace: str, address: str) -> str:
    """Raises `OSError`, as every other way to a page does."""
    pod, _, port = address.partition(":")
    try:
        return api.page(namespace, pod, int(port), "/metrics")
    except ApiError as error:
        raise OSError(str(error)) from error
