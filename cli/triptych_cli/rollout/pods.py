"""Counters of the stages' pods, read through the API server, so that it works from outside of the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from controller.kubernetes.api import ApiError, Json, part
from controller.kubernetes.blocking import BlockingApi
from triptych_cli.rollout.counts import REQUESTS, SECONDS, Reading, Sample
from triptych_cli.rollout.metric_sources import Endpoints, Signals, SignalsError
from triptych_cli.rollout.samples import Page, complete, read_page

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
        origins = set[str]()
        faults, left_out = list[str](), list[str]()
        for pod in _pods(self._api, self._namespace, f"{REVISION} in ({', '.join(self._revisions)})"):
            revision = _labels(pod).get(REVISION, "")
            for address in _addresses(pod)[:1]:
                try:
                    text = _page(self._api, self._namespace, address)
                except (OSError, ValueError) as error:
                    faults.append(f"{address}: {error}")
                    continue
                page = read_page([line for line in text.splitlines() if line.startswith(tuple(STAGE_SERIES))])
                samples += _stage_samples(address, revision, _of_whole_requests(page, text))
                left_out += page.fault(address)
                origins.add(address)
        if not origins:
            raise SignalsError(f"no pod of {' or '.join(self._revisions)} answers ({'; '.join(faults) or 'none runs'})")
        return Reading(list(complete(samples)), frozenset(origins), (*faults, *left_out))


def _of_whole_requests(page: Page, text: str) -> Page:
    """Without the series of postprocess where preprocess does its work: each request would count twice."""
    if 'stage="preprocess"' not in text:
        return page
    return Page([each for each in page.counters if each[1].get("stage") == "preprocess"], page.bad)


def _stage_samples(address: str, revision: str, page: Page) -> Iterator[Sample]:
    """The stage's own counters under the revision that made them."""
    for name, labels, value in page.counters:
        if counted := STAGE_SERIES.get(name):
            own = {"model_version" if key == "version" else key: text for key, text in labels.items()}
            yield Sample(address, counted, tuple(sorted({**own, "version": revision}.items())), value)


def _pods(api: BlockingApi, namespace: str, selector: str) -> Sequence[Json]:
    try:
        return api.pods(namespace, selector)
    except ApiError as error:
        raise SignalsError(f"the pods of '{namespace}' cannot be listed: {error}") from error


def _addresses(pod: Json) -> list[str]:
    """`pod:port` of each metrics endpoint: a port of that name, else what Prometheus is told, else the usual one.

    None of a pod without a name; fields that are not what Kubernetes has there count as missing.
    """
    name = part(pod, "metadata").get("name")
    if not isinstance(name, str):
        return []
    told = part(part(pod, "metadata"), "annotations").get("prometheus.io/port")
    usual = PORTS.get(_labels(pod).get(COMPONENT, ""), 9100)
    ports = list(_named_ports(pod)) or [int(told) if isinstance(told, str) and told.isdecimal() else usual]
    return [f"{name}:{port}" for port in ports]


def _named_ports(pod: Json) -> Iterator[int]:
    for container in _objects(part(pod, "spec").get("containers")):
        for port in _objects(container.get("ports")):
            if port.get("name") == "metrics" and isinstance(port.get("containerPort"), int):
                yield port["containerPort"]


def _labels(pod: Json) -> dict[str, str]:
    labels = part(part(pod, "metadata"), "labels")
    return {str(name): str(value) for name, value in labels.items()}


def _objects(items: Any) -> list[Json]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _page(api: BlockingApi, namespace: str, address: str) -> str:
    """Raises `OSError`, as every other way to a page does."""
    pod, _, port = address.partition(":")
    try:
        return api.page(namespace, pod, int(port), "/metrics")
    except ApiError as error:
        raise OSError(str(error)) from error
