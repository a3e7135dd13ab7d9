"""What a stage counts: Prometheus series, the same counts as OIP ModelStatistics, log lines and the request's span.

Label values come from closed sets: family, model and version only after the catalogue knew them
(`Request.known`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from tritonclient.grpc import service_pb2 as pb

from triptych import pages
from triptych.addresses import join
from triptych.call import Call
from triptych.door import Door
from triptych.errors import Overloaded, clipped
from triptych.settings import StageSettings
from triptych.status import ended_as, status_of
from triptych.tracing import Tracing
from triptych.version_metrics import VersionMetrics

log = logging.getLogger("triptych.request")

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
TOLD_S = 1.0
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


# A part of a request, as OIP statistics call it; perf_analyzer shows these, and finds a version by its queue count.
_OIP_PARTS = {
    "queue": "queue",
    "transform": "compute_input",
    "predict": "compute_infer",
    "postprocess": "compute_output",
}


@dataclass
class _Sums:
    """Sums for ModelStatistics, one for each model and version."""

    requests: int = 0
    rows: int = 0
    success_ns: int = 0
    failures: int = 0
    failure_ns: int = 0
    last_ms: int = 0
    parts_ns: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.requests + other.requests,
            self.rows + other.rows,
            self.success_ns + other.success_ns,
            self.failures + other.failures,
            self.failure_ns + other.failure_ns,
            max(self.last_ms, other.last_ms),
            {part: self.parts_ns.get(part, 0) + other.parts_ns.get(part, 0) for part in _OIP_PARTS},
        )

    def message(self, model: str, version: str) -> pb.ModelStatistics:
        statistics = pb.ModelStatistics(
            name=model,
            version=version,
            last_inference=self.last_ms,
            inference_count=self.rows,
            execution_count=self.requests,
        )
        each = statistics.inference_stats
        each.success.count, each.success.ns = self.requests, self.success_ns
        each.fail.count, each.fail.ns = self.failures, self.failure_ns
        for part, name in _OIP_PARTS.items():
            duration = getattr(each, name)
            duration.count, duration.ns = self.requests, self.parts_ns.get(part, 0)
        return statistics


@dataclass(slots=True)
class Request:
    """The request in hand; the servicer fills in what it learns."""

    id: str
    family: str = "-"
    model: str = ""
    version: str = "-"
    rows: int = 0
    parts: Mapping[str, float] = field(default_factory=dict)  # seconds of each part of the work
    answers: Mapping[str, int] = field(default_factory=dict)  # rows by value, where the contract observes one

    def known(self, family: str, model: str, version: str) -> None:
        self.family, self.model, self.version = family, model, version


_current: ContextVar[Request] = ContextVar("request")


def current() -> Request:
    """The request that this task works on."""
    return _current.get()


class Laps:
    """Times the parts of some work, one after the other, for one request or for a group of them."""

    def __init__(self, observe: Callable[[str, float], None], since_s: float) -> None:
        self.parts: dict[str, float] = {}
        self._observe, self._since_s = observe, since_s

    def end(self, part: str) -> None:
        """That part ends now, and the next begins."""
        now_s = time.monotonic()
        self.parts[part] = now_s - self._since_s
        self._observe(part, now_s - self._since_s)
        self._since_s = now_s


class _Children(dict[tuple[str, ...], Any]):
    """A metric's series of one stage by their other labels, found once: finding them costs more than counting."""

    def __init__(self, metric: Counter | Histogram, stage: str) -> None:
        super().__init__()
        self._metric, self._stage = metric, stage

    def __missing__(self, labels: tuple[str, ...]) -> Any:
        series = self[labels] = self._metric.labels(self._stage, *labels)
        return series


def together(*stages: StageMetrics) -> CollectorRegistry:
    """Several stages as one registry: a metric's series stand together, as the format of the page wants."""
    registry = CollectorRegistry()
    registry.register(_Merged([stage.registry for stage in stages]))
    return registry


class _Merged:
    def __init__(self, registries: Sequence[CollectorRegistry]) -> None:
        self._registries = registries

    def collect(self) -> Iterable[Metric]:
        metrics: dict[str, Metric] = {}
        for registry in self._registries:
            for metric in registry.collect():
                known = metrics.setdefault(metric.name, copy(metric))
                if known.samples is not metric.samples:
                    known.samples = [*known.samples, *metric.samples]
        return metrics.values()


class StageMetrics:
    """The metrics of one stage, in a registry of its own."""

    def __init__(self, stage: str, tracing: Tracing) -> None:
        self.stage = stage
        self.registry = CollectorRegistry()
        self.tracing = tracing
        self._sums: dict[tuple[str, str, str], _Sums] = defaultdict(_Sums)
        labels = ("stage", "family", "version")
        self._requests = _Children(
            Counter("triptych_requests", "Requests by gRPC code", (*labels, "code"), registry=self.registry), stage
        )
        self._seconds = _Children(
            Histogram(
                "triptych_request_seconds", "Whole requests", labels, buckets=LATENCY_BUCKETS, registry=self.registry
            ),
            stage,
        )
        self._parts = _Children(
            Histogram(
                "triptych_part_seconds",
                "Parts of the work, each group of requests once",
                ("stage", "part"),
                buckets=LATENCY_BUCKETS,
                registry=self.registry,
            ),
            stage,
        )
        self._rows = _Children(
            Histogram(
                "triptych_request_rows",
                "Rows of requests",
                ("stage", "family"),
                buckets=ROW_BUCKETS,
                registry=self.registry,
            ),
            stage,
        )
        self._in_flight = Gauge(
            "triptych_in_flight", "Requests being worked on", ("stage",), registry=self.registry
        ).labels(stage)
        self._refused = Counter(
            "triptych_refused", "Requests refused because too many wait", ("stage",), registry=self.registry
        ).labels(stage)
        self._told_s = float("-inf")  # when a line was written about them
        self._untold = 0
        self._versions = VersionMetrics(stage, self.registry)

    def serve(self, settings: StageSettings, door: Door, *others: StageMetrics) -> None:
        """The Prometheus endpoint, with the voices of the door beside it; from the door's loop. Port 0 is none.

        `others` are stages whose work is done in this process: their series are on the same page.
        """
        host, port = settings.host, settings.metrics_port
        if not port:
            return
        registry = together(self, *others) if others else self.registry
        answers = pages.Pages(registry, door, asyncio.get_running_loop())
        try:
            pages.Server(answers, settings.metrics_timeout_s, settings.metrics_max_connections).start(host, port)
        except OSError as error:
            raise OSError(f"cannot serve metrics on {join(host, port)}: {error.strerror}") from error

    def watch(self, in_flight: Callable[[], int]) -> None:
        """Asks for the number of requests in flight whenever somebody looks."""
        self._in_flight.set_function(in_flight)

    def refused(self, message: pb.ModelInferRequest, text: str) -> None:
        """A request for which there is no room. Of these there are many, so they have one line a second together."""
        self._refused.inc()
        now_s = time.monotonic()
        if now_s - self._told_s < TOLD_S:
            self._untold += 1
            return
        log.info("refused", extra=_shown(message, "RESOURCE_EXHAUSTED", text) | {"and_before": self._untold})
        self._told_s, self._untold = now_s, 0

    def request(self, message: pb.ModelInferRequest, call: Call) -> Around:
        """Around one request: counts it, times it, logs its failure, and is its span."""
        return Around(self, message, call)

    def laps(self, since_s: float | None = None) -> Laps:
        """A stopwatch for parts; `since_s` (default: now) is on the clock of `time.monotonic`."""
        return Laps(self._part, time.monotonic() if since_s is None else since_s)

    def _part(self, part: str, seconds: float) -> None:
        self._parts[part,].observe(seconds)

    def count(self, request: Request, code: str, seconds: float) -> None:
        """One request that is over."""
        family, model, version = request.family, request.model, request.version
        self._requests[family, version, code].inc()
        self._seconds[family, version].observe(seconds)
        if request.rows:
            self._rows[family,].observe(request.rows)
        if not model:
            return
        self._versions.count(model, version, code, seconds, request.answers)
        sums = self._sums[family, model, version]
        if code == "OK":
            sums.requests += 1
            sums.rows += request.rows
            sums.success_ns += int(seconds * 1e9)
            sums.last_ms = int(time.time() * 1e3)
            for part, part_s in request.parts.items():
                sums.parts_ns[part] = sums.parts_ns.get(part, 0) + int(part_s * 1e9)
        else:
            sums.failures += 1
            sums.failure_ns += int(seconds * 1e9)

    def statistics(self, name: str, versions: Sequence[str]) -> pb.ModelStatisticsResponse:
        """The counts since start as OIP has them, for the versions of a model or family; `name` empty means all."""
        shown = {(name, version): _Sums() for version in versions} if name else {}
        for (family, model, version), sums in sorted(self._sums.items()):
            if not name:
                shown[model, version] = sums
            elif name in (family, model) and version in versions:
                shown[name, version] += sums
        response = pb.ModelStatisticsResponse()
        for (model, version), sums in shown.items():
            response.model_stats.append(sums.message(model, version))
        return response


class Around:
    """One request, from its beginning to its end."""

    __slots__ = ("_call", "_message", "_metrics", "_request", "_scope", "_span", "_start", "_token")

    def __init__(self, metrics: StageMetrics, message: pb.ModelInferRequest, call: Call) -> None:
        self._metrics, self._message, self._call = metrics, message, call
        self._request = Request(message.id)
        self._scope = metrics.tracing.span(metrics.stage, call)

    def __enter__(self) -> None:
        self._token = _current.set(self._request)
        self._start = time.perf_counter()
        self._span = self._scope.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        request, code = self._request, "OK"
        if error is not None:
            code = self._failed(error) if isinstance(error, Exception) else ended_as(error, self._call)
        _current.reset(self._token)
        self._span.describe(request.model, request.version, request.rows)
        self._scope.__exit__(None, None, None)
        seconds = time.perf_counter() - self._start
        if code == "OK" and self._call.unwritten is not None:
            self._call.unwritten.append(lambda written: self._metrics.count(request, written, seconds))
        else:
            self._metrics.count(request, code, seconds)
        if log.isEnabledFor(logging.DEBUG):
            about = {"id": clipped(request.id), "model": request.model, "code": code, "seconds": seconds}
            log.debug("answered", extra=about)

    def _failed(self, error: BaseException) -> str:
        status, text = status_of(error)
        self._span.failed(status.name, text)
        if isinstance(error, Overloaded):
            self._metrics.refused(self._message, text)
            return status.name
        log.info("refused", extra=_shown(self._message, status.name, text))
        return status.name


def _shown(message: pb.ModelInferRequest, code: str, text: str) -> dict[str, str]:
    """The fields of a line about a request. The caller's words may be of any length, a line may not."""
    return {"id": clipped(message.id), "model": clipped(message.model_name), "code": code, "text": text}
