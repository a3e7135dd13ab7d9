"""Sources of the counters of the stages' pods, read through the API server, which works from outside the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from controller.kubernetes.api import ApiError, Json, part
from controller.kubernetes.blocking import BlockingApi
from triptych_cli.rollout.metrics.counts import REQUESTS, SECONDS, Reading, Sample
from triptych_cli.rollout.metrics.page import MetricsPage, parse_page, with_required_labels
from triptych_cli.rollout.metrics.sources import EndpointSource, MetricSource, MetricSourceError

COMPONENT = "app.kubernetes.io/component"
RELEASE = "triptych.dev/release"  # of a release without a fullnameOverride no pod has it
REVISION = "serving.knative.dev/revision"
PORTS = {"preprocess": 9100, "postprocess": 9101}  # defaults, because Knative allows no second port
STAGE_SERIES = {"triptych_requests_total": REQUESTS, "triptych_request_seconds_bucket": SECONDS}


def model_metrics(api: BlockingApi, namespace: str, release: str, model: str) -> MetricSource:
    """Counters of one model's versions, from every preprocess and postprocess of a release."""
    owned = f"{RELEASE}={release}" if release else f"!{RELEASE}"
    selector = f"{COMPONENT} in (preprocess, postprocess, grouped),{owned}"

    def addresses() -> Sequence[str]:
        found = _pods(api, namespace, selector)
        return [address for pod in found for address in _addresses(pod)]

    return EndpointSource(model, addresses, partial(_page, api, namespace))


class RevisionMetrics:
    """Counters of the revisions of a stage's code: all requests of each revision's pods."""

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
                page = parse_page([line for line in text.splitlines() if line.startswith(tuple(STAGE_SERIES))])
                samples += _stage_samples(address, revision, _without_in_process(page, text))
                left_out += page.fault(address)
                origins.add(address)
        if not origins:
            raise MetricSourceError(
                f"no pod of {' or '.join(self._revisions)} answers ({'; '.join(faults) or 'none runs'})"
            )
        return Reading(list(with_required_labels(samples)), frozenset(origins), (*faults, *left_out))


def _without_in_process(page: MetricsPage, text: str) -> MetricsPage:
    """Drop the series of postprocess if preprocess runs it in process: each request would count twice."""
    if 'stage="preprocess"' not in text:
        return page
    return MetricsPage([each for each in page.counters if each[1].get("stage") == "preprocess"], page.bad)


def _stage_samples(address: str, revision: str, page: MetricsPage) -> Iterator[Sample]:
    """The stage's counters with the revision as their version."""
    for name, labels, value in page.counters:
        if counted := STAGE_SERIES.get(name):
            own = {"model_version" if key == "version" else key: text for key, text in labels.items()}
            yield Sample(address, counted, tuple(sorted({**own, "version": revision}.items())), value)


def _pods(api: BlockingApi, namespace: str, selector: str) -> Sequence[Json]:
    try:
        return api.pods(namespace, selector)
    except ApiError as error:
        raise MetricSourceError(f"the pods of '{namespace}' cannot be listed: {error}") from error


def _addresses(pod: Json) -> list[str]:
    """`pod:port` of each metrics endpoint: a port named metrics, else the annotation for Prometheus, else the default.

    Empty for a pod without a name; a field of another type than Kubernetes has counts as missing.
    """
    name = part(pod, "metadata").get("name")
    if not isinstance(name, str):
        return []
    annotated = part(part(pod, "metadata"), "annotations").get("prometheus.io/port")
    default = PORTS.get(_labels(pod).get(COMPONENT, ""), 9100)
    ports = list(_named_ports(pod)) or [
        int(annotated) if isinstance(annotated, str) and annotated.isdecimal() else default
    ]
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
    """Fetch a metrics page through the API server. Raises `OSError`."""
    pod, _, port = address.partition(":")
    try:
        return api.page(namespace, pod, int(port), "/metrics")
    except ApiError as error:
        raise OSError(str(error)) from error
