"""Where the counters come from: the stages' own metrics endpoints, or a Prometheus that scrapes them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from triptych_cli.rollout.counts import ANSWERS, REQUESTS, SECONDS, Reading, Sample
from triptych_cli.rollout.samples import Page, complete, read_page

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
        read = {address: read_page(list(_lines_about(self._model, page))) for address, page in answered.items()}
        samples = complete(sample for address, page in read.items() for sample in self._samples(address, page))
        faults = tuple(fault for address, page in read.items() for fault in page.fault(address))
        return Reading(list(samples), frozenset(answered), faults)

    def _page(self, address: str) -> str | Exception:
        try:
            return self._fetch(address)
        except (OSError, ValueError) as error:  # ValueError: an address or a page of another kind
            return error

    def _samples(self, address: str, page: Page) -> Iterator[Sample]:
        for name, labels, value in page.counters:
            if name in STAGES and labels.get("model") == self._model and STAGES[name] == labels.get("stage"):
                yield Sample(address, name, tuple(sorted(labels.items())), value)


class Prometheus:
    """Asks a Prometheus server; its view is as old as its last scrape, so a hold should last several of them."""

    def __init__(self, model: str, url: str, fetch: Callable[[str], str]) -> None:
        self._model, self._url, self._fetch = model, url.rstrip("/"), fetch

    def read(self) -> Reading:
        present = self._query(f'{_PRESENT}{{stage=~"preprocess|postprocess"}}')
        names = "|".join(STAGES)
        every = self._query(f'{{__name__=~"{names}",model="{_escaped(self._model)}"}}')
        found = [entry for entry in every if _of_stage(_metric(entry))]
        samples = [sample for entry in found if (sample := _sample(entry))]
        kept = list(complete(samples))
        odd = len(found) - len(kept)
        faults = (f"Prometheus at {self._url}: {odd} series left out",) if odd else ()
        return Reading(kept, frozenset(map(_origin, filter(None, map(_metric, present)))), faults)

    def _query(self, expression: str) -> list[Any]:
        url = f"{self._url}/api/v1/query?{urlencode({'query': expression})}"
        try:
            reply = json.loads(self._fetch(url))
        except (OSError, ValueError) as error:
            raise SignalsError(f"Prometheus at {self._url} does not answer: {error}") from error
        status = reply.get("status") if isinstance(reply, dict) else None
        if status != "success":
            said = reply.get("error", reply) if isinstance(reply, dict) else reply
            raise SignalsError(f"Prometheus at {self._url} refused the query: {str(said)[:500]}")
        data = reply.get("data")
        result = data.get("result") if isinstance(data, dict) else None
        return result if isinstance(result, list) else []


def fetch(url: str) -> str:
    """The text behind a URL. Raises `OSError`."""
    if not url.startswith(("http://", "https://")):
        raise URLError(f"want a URL that starts with http:// or https://, got '{url}'")
    with urlopen(url, timeout=FETCH_S) as page:
        text: str = page.read().decode(errors="replace")
        return text


def _lines_about(model: str, page: str) -> Iterable[str]:
    """The few lines that count out of the thousands of a busy stage: parsing all would cost a second."""
    mark = f'model="{_escaped(model)}"'
    return (line for line in page.splitlines() if mark in line)


def _of_stage(labels: Mapping[str, str]) -> bool:
    """Whether the series is that of the stage which counts; of what is no series it cannot be told."""
    name = labels.get("__name__", "")
    return name not in STAGES or STAGES[name] == labels.get("stage")


def _escaped(text: str) -> str:
    """For a string of a query, and of a label in a page."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _metric(entry: Any) -> dict[str, str]:
    """Labels of a series; none of what is no series."""
    labels = entry.get("metric") if isinstance(entry, dict) else None
    return {str(name): str(text) for name, text in labels.items()} if isinstance(labels, dict) else {}


def _sample(entry: Any) -> Sample | None:
    """None for what is no counter of a stage."""
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
    """One process, as Prometheus names it."""
    return f"{labels.get('job', '')}/{labels.get('instance', '')}"
