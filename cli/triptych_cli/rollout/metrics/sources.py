"""Sources of the counters: the stages' metrics endpoints, or a Prometheus that scrapes them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any, Protocol
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from triptych_cli.rollout.metrics.counts import ANSWERS, REQUESTS, SECONDS, Reading, Sample
from triptych_cli.rollout.metrics.page import MetricsPage, parse_page, with_required_labels

FETCH_S = 2.0
# Preprocess counts whole requests; only postprocess knows the answers.
STAGES = {REQUESTS: "preprocess", SECONDS: "preprocess", ANSWERS: "postprocess"}
_OPENER = build_opener(ProxyHandler({}))  # pods and Prometheus are inside, whatever the environment says
_PRESENT = "triptych_in_flight"  # every stage exports it from its start


class MetricSourceError(Exception):
    """No counter could be read; the text says why."""


class MetricSource(Protocol):
    """Counters of the versions of one model."""

    def read(self) -> Reading:
        """Read all of them. Raises `MetricSourceError` if nothing answers."""


class EndpointSource:
    """Scraper of metrics pages; `addresses` is called for each reading, since pods come and go."""

    def __init__(self, model: str, addresses: Callable[[], Sequence[str]], fetch: Callable[[str], str]) -> None:
        self._model, self._addresses, self._fetch = model, addresses, fetch
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="scrape")

    def read(self) -> Reading:
        addresses = self._addresses()
        pages = dict(zip(addresses, self._threads.map(self._page, addresses), strict=True))
        answered = {address: page for address, page in pages.items() if isinstance(page, str)}
        if not answered:
            reasons = "; ".join(f"{address}: {reason}" for address, reason in pages.items()) or "there is none"
            raise MetricSourceError(f"no metrics endpoint answers ({reasons}); --metrics names them")
        read = {address: parse_page(list(_lines_about(self._model, page))) for address, page in answered.items()}
        samples = with_required_labels(
            sample for address, page in read.items() for sample in self._samples(address, page)
        )
        faults = tuple(fault for address, page in read.items() for fault in page.fault(address))
        return Reading(list(samples), frozenset(answered), faults)

    def _page(self, address: str) -> str | Exception:
        try:
            return self._fetch(address)
        except (OSError, ValueError) as error:  # ValueError: no URL, or no text
            return error

    def _samples(self, address: str, page: MetricsPage) -> Iterator[Sample]:
        for name, labels, value in page.counters:
            if name in STAGES and labels.get("model") == self._model and STAGES[name] == labels.get("stage"):
                yield Sample(address, name, tuple(sorted(labels.items())), value)


class PrometheusSource:
    """Client of a Prometheus server. Its data are as old as its last scrape, so a hold should last several scrapes.

    `matchers` restrict its series, as in `,namespace="a"`.
    """

    def __init__(self, model: str, url: str, fetch: Callable[[str], str], matchers: str = "") -> None:
        self._model, self._url, self._fetch, self._matchers = model, url.rstrip("/"), fetch, matchers

    def read(self) -> Reading:
        present = self._query(f'{_PRESENT}{{stage=~"preprocess|postprocess"{self._matchers}}}')
        names = "|".join(STAGES)
        every = self._query(f'{{__name__=~"{names}",model="{_escaped(self._model)}"{self._matchers}}}')
        counters = [entry for entry in every if _of_stage(_metric(entry))]
        samples = [sample for entry in counters if (sample := _sample(entry))]
        kept = list(with_required_labels(samples))
        odd = len(counters) - len(kept)
        faults = (f"Prometheus at {self._url}: {odd} series left out",) if odd else ()
        return Reading(kept, frozenset(map(_origin, filter(None, map(_metric, present)))), faults)

    def _query(self, expression: str) -> list[Any]:
        url = f"{self._url}/api/v1/query?{urlencode({'query': expression})}"
        try:
            reply = json.loads(self._fetch(url))
        except (OSError, ValueError) as error:
            raise MetricSourceError(f"Prometheus at {self._url} does not answer: {error}") from error
        status = reply.get("status") if isinstance(reply, dict) else None
        if status != "success":
            details = reply.get("error", reply) if isinstance(reply, dict) else reply
            raise MetricSourceError(f"Prometheus at {self._url} refused the query: {str(details)[:500]}")
        data = reply.get("data")
        result = data.get("result") if isinstance(data, dict) else None
        return result if isinstance(result, list) else []


def release_matchers(namespace: str, release: str) -> str:
    """Matchers for the pods of a release, by the labels that Prometheus gives to the targets of pods."""
    prefix = f"{release}-" if release else ""
    return f',namespace="{namespace}",pod=~"{prefix}(preprocess|postprocess|grouped)-.*"'


def fetch(url: str) -> str:
    """Fetch a URL as text. Raises `OSError`."""
    if not url.startswith(("http://", "https://")):
        raise URLError(f"want a URL that starts with http:// or https://, got '{url}'")
    try:
        with _OPENER.open(url, timeout=FETCH_S) as page:
            text: str = page.read().decode(errors="replace")
    except HTTPException as error:  # the page was cut off, or is not HTTP
        raise OSError(str(error) or type(error).__name__) from None
    return text


def _lines_about(model: str, page: str) -> Iterable[str]:
    """The lines of one model. Parsing all of a busy stage's thousands would take a second."""
    mark = f'model="{_escaped(model)}"'
    return (line for line in page.splitlines() if mark in line)


def _of_stage(labels: Mapping[str, str]) -> bool:
    """Whether a series is of the stage in `STAGES`; True for an entry without a name."""
    name = labels.get("__name__", "")
    return name not in STAGES or STAGES[name] == labels.get("stage")


def _escaped(text: str) -> str:
    """Escape a string for a query, and for a label in a page."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _metric(entry: Any) -> dict[str, str]:
    """Labels of a series; empty for an entry that is no series."""
    labels = entry.get("metric") if isinstance(entry, dict) else None
    return {str(name): str(text) for name, text in labels.items()} if isinstance(labels, dict) else {}


def _sample(entry: Any) -> Sample | None:
    """The sample of a series, or None if it is no counter of a stage."""
    labels = _metric(entry)
    name = labels.get("__name__", "")
    try:
        value = float(entry["value"][1])
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    if STAGES.get(name, "") != labels.get("stage") or not math.isfinite(value) or value < 0:
        return None
    own = {key: labels[key] for key in ("version", "code", "le", "value") if key in labels}
    return Sample(_origin(labels), name, tuple(sorted(own.items())), value)


def _origin(labels: dict[str, str]) -> str:
    """The process, by Prometheus's labels."""
    return f"{labels.get('job', '')}/{labels.get('instance', '')}"
