"""Where the counters come from: the stages' own metrics endpoints, or a Prometheus that scrapes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from repository.rollout.counts import ANSWERS, REQUESTS, SECONDS, Reading, Sample

FETCH_S = 2.0
# Preprocess sees whole requests; only postprocess sees what was answered.
STAGES = {REQUESTS: "preprocess", SECONDS: "preprocess", ANSWERS: "postprocess"}
_PRESENT = "triptych_in_flight"  # every stage shows it from its start on


class SignalsError(Exception):
    """No counter could be read."""


class Signals(Protocol):
    """Counters of the versions of one model."""

    def read(self) -> Reading:
        """All of them now. Raises `SignalsError` when nothing answers."""


class Endpoints:
    """Scrapes metrics pages; `addresses` is asked anew each time, since pods come and go."""

    def __init__(self, model: str, addresses: Callable[[], Sequence[str]], fetch: Callable[[str], str]) -> None:
        self._model, self._addresses, self._fetch = model, addresses, fetch
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="scrape")

    def read(self) -> Reading:
        addresses = self._addresses()
        pages = dict(zip(addresses, self._threads.map(self._page, addresses), strict=True))
        answered = {address: page for address, page in pages.items() if isinstance(page, str)}
        if not answered:
            reasons = "; ".join(f"{address}: {reason}" for address, reason in pages.items()) or "there is none"
            raise SignalsError(f"no metrics endpoint answers ({reasons}); --metrics names them")
        samples = [sample for address, page in answered.items() for sample in self._samples(address, page)]
        return Reading(samples, frozenset(answered))

    def _page(self, address: str) -> str | OSError:
        try:
            return self._fetch(address)
        except OSError as error:
            return error

    def _samples(self, address: str, page: str) -> Iterator[Sample]:
        for family in text_string_to_metric_families("\n".join(_lines_about(self._model, page))):
            for name, labels, value, *_ in family.samples:
                if labels.get("model") == self._model and STAGES.get(name) == labels.get("stage"):
                    yield Sample(address, name, tuple(sorted(labels.items())), value)


class Prometheus:
    """Asks a Prometheus server; its view is as old as its last scrape, so a hold should last several of them."""

    def __init__(self, model: str, url: str, fetch: Callable[[str], str]) -> None:
        self._model, self._url, self._fetch = model, url.rstrip("/"), fetch

    def read(self) -> Reading:
        present = self._query(f'{_PRESENT}{{stage=~"preprocess|postprocess"}}')
        names = "|".join(STAGES)
        found = self._query(f'{{__name__=~"{names}",model="{self._model}"}}')
        samples = []
        for entry in found:
            labels = dict(entry["metric"])
            name, origin = labels.pop("__name__"), _origin(labels)
            if STAGES[name] == labels.get("stage"):
                own = {key: labels[key] for key in ("version", "code", "le", "value") if key in labels}
                samples.append(Sample(origin, name, tuple(sorted(own.items())), float(entry["value"][1])))
        return Reading(samples, frozenset(_origin(entry["metric"]) for entry in present))

    def _query(self, expression: str) -> list[Any]:
        url = f"{self._url}/api/v1/query?{urlencode({'query': expression})}"
        try:
            reply = json.loads(self._fetch(url))
        except (OSError, ValueError) as error:
            raise SignalsError(f"Prometheus at {self._url} does not answer: {error}") from error
        if reply.get("status") != "success":
            raise SignalsError(f"Prometheus at {self._url} refused the query: {reply.get('error', reply)}")
        return list(reply["data"]["result"])


def fetch(url: str) -> str:
    """The text behind a URL. Raises `OSError`."""
    if not url.startswith(("http://", "https://")):
        raise URLError(f"want a URL that starts with http:// or https://, got '{url}'")
    with urlopen(url, timeout=FETCH_S) as page:
        text: str = page.read().decode()
        return text


def _lines_about(model: str, page: str) -> Iterable[str]:
    """The few lines that count out of the thousands of a busy stage: parsing all would cost a second."""
    mark = f'model="{model}"'
    return (line for line in page.splitlines() if mark in line)


def _origin(labels: dict[str, str]) -> str:
    """One process, as Prometheus names it."""
    return f"{labels.get('job', '')}/{labels.get('instance', '')}"
