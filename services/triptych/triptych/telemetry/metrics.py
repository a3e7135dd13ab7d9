"""What a stage counts: Prometheus series, the same counts as OIP ModelStatistics, log lines and the request's span.

Label values come from closed sets: family, model and version only after the catalog knew them
(`Request.known`).
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field
from operator import itemgetter
from types import MappingProxyType
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Metric
from tritonclient.grpc import service_pb2 as pb

from triptych.errors import Overloaded, clipped
from triptych.protocol.call import Call
from triptych.protocol.status import ended_as, status_of
from triptych.telemetry.series import Count, Counter, Distribution, Histogram
from triptych.telemetry.tracing import Tracing
from triptych.telemetry.version_metrics import VersionMetrics

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


_NONE: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass
class _Sums:
    """Sums for ModelStatistics, one for each model and version."""

    requests: int = 0
    rows: int = 0
    success_s: float = 0.0
    failures: int = 0
    failure_s: float = 0.0
    last_s: float = 0.0
    parts_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.requests + other.requests,
            self.rows + other.rows,
            self.success_s + other.success_s,
            self.failures + other.failures,
            self.failure_s + other.failure_s,
            max(self.last_s, other.last_s),
            {part: self.parts_s.get(part, 0.0) + other.parts_s.get(part, 0.0) for part in _OIP_PARTS},
        )

    def message(self, model: str, version: str) -> pb.ModelStatistics:
        statistics = pb.ModelStatistics(
            name=model,
            version=version,
            last_inference=int(self.last_s * 1e3),
            inference_count=self.rows,
            execution_count=self.requests,
        )
        each = statistics.inference_stats
        each.success.count, each.success.ns = self.requests, int(self.success_s * 1e9)
        each.fail.count, each.fail.ns = self.failures, int(self.failure_s * 1e9)
        for part, name in _OIP_PARTS.items():
            duration = getattr(each, name)
            duration.count, duration.ns = self.requests, int(self.parts_s.get(part, 0.0) * 1e9)
        return statistics


class Request:
    """The request in hand; the servicer fills in what it learns."""

    __slots__ = ("answers", "family", "id", "model", "parts", "rows", "version")

    def __init__(self, id: str) -> None:
        self.id = id
        self.family = self.version = "-"
        self.model = ""
        self.rows = 0
        self.parts: Mapping[str, float] = _NONE  # seconds of each part of the work
        self.answers: Mapping[str, int] = _NONE  # rows by value, where the contract observes one

    def known(self, family: str, model: str, version: str) -> None:
        self.family, self.model, self.version = family, model, version


_current: ContextVar[Request] = ContextVar("request")


def current() -> Request:
    """The request that this task works on."""
    return _current.get()


class Stopwatch:
    """Times the parts of some work, one after the other, for one request or for a group of them."""

    __slots__ = ("_seconds", "_since_s", "parts")

    def __init__(self, seconds: Mapping[str, Distribution], since_s: float) -> None:
        self.parts: dict[str, float] = {}
        self._seconds, self._since_s = seconds, since_s

    def end(self, part: str) -> None:
        """That part ends now, and the next begins."""
        now_s = time.monotonic()
        self.parts[part] = took_s = now_s - self._since_s
        self._seconds[part].observe(took_s)
        self._since_s = now_s


class _Parts(dict[str, Distribution]):
    """The histogram of each part, found once."""

    def __init__(self, stage: str, histogram: Histogram) -> None:
        super().__init__()
        self._stage, self._histogram = stage, histogram

    def __missing__(self, part: str) -> Distribution:
        series = self[part] = self._histogram.labels(self._stage, part)
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


class _Counted:
    """Everything that one version of a model counts, found once: finding it costs more than counting."""

    __slots__ = ("codes", "rows", "seconds", "sums")

    def __init__(self, seconds: Distribution) -> None:
        self.seconds = seconds
        self.rows: Distribution | None = None  # made with the first request that has rows
        self.codes: dict[str, Count] = {}
        self.sums = _Sums()

    def add(self, request: Request, code: str, seconds: float) -> None:
        self.codes[code].value += 1
        self.seconds.observe(seconds)
        if request.rows and self.rows is not None:
            self.rows.observe(request.rows)
        sums = self.sums
        if code == "OK":
            sums.requests += 1
            sums.rows += request.rows
            sums.success_s += seconds
            sums.last_s = time.time()
            for part, part_s in request.parts.items():
                sums.parts_s[part] += part_s
        else:
            sums.failures += 1
            sums.failure_s += seconds


class StageMetrics:
    """The metrics of one stage, in a registry of its own."""

    def __init__(self, stage: str, tracing: Tracing) -> None:
        self.stage = stage
        self.registry = CollectorRegistry()
        self.tracing = tracing
        self._counted: dict[tuple[str, str, str], _Counted] = {}
        labels = ("stage", "family", "version")
        self._requests = Counter("triptych_requests", "Requests by gRPC code", (*labels, "code"), self.registry)
        self._seconds = Histogram("triptych_request_seconds", "Whole requests", labels, LATENCY_BUCKETS, self.registry)
        parts = Histogram(
            "triptych_part_seconds",
            "Parts of the work, each group of requests once",
            ("stage", "part"),
            LATENCY_BUCKETS,
            self.registry,
        )
        self._parts = _Parts(stage, parts)
        self._rows = Histogram(
            "triptych_request_rows", "Rows of requests", ("stage", "family"), ROW_BUCKETS, self.registry
        )
        self._in_flight = Gauge(
            "triptych_in_flight", "Requests being worked on", ("stage",), registry=self.registry
        ).labels(stage)
        self._refused = Counter(
            "triptych_refused", "Requests refused because too many wait", ("stage",), self.registry
        ).labels(stage)
        self._told_s = float("-inf")  # when a line was written about them
        self._untold = 0
        self._versions = VersionMetrics(stage, self.registry)

    def watch(self, in_flight: Callable[[], int]) -> None:
        """Asks for the number of requests in flight whenever somebody looks."""
        self._in_flight.set_function(in_flight)

    def refused(self, message: pb.ModelInferRequest, text: str) -> None:
        """A request for which there is no room. Of these there are many, so they have one line a second together."""
        self._refused.value += 1
        now_s = time.monotonic()
        if now_s - self._told_s < TOLD_S:
            self._untold += 1
            return
        log.info("refused", extra=_shown(message, "RESOURCE_EXHAUSTED", text) | {"and_before": self._untold})
        self._told_s, self._untold = now_s, 0

    def request(self, message: pb.ModelInferRequest, call: Call) -> Around:
        """Around one request: counts it, times it, logs its failure, and is its span."""
        return Around(self, message, call)

    def stopwatch(self, since_s: float | None = None) -> Stopwatch:
        """A stopwatch for parts; `since_s` (default: now) is on the clock of `time.monotonic`."""
        return Stopwatch(self._parts, time.monotonic() if since_s is None else since_s)

    def count(self, request: Request, code: str, seconds: float) -> None:
        """One request that is over."""
        key = request.family, request.model, request.version
        counted = self._counted.get(key)
        if counted is None:
            counted = self._counted[key] = _Counted(self._seconds.labels(self.stage, request.family, request.version))
        if code not in counted.codes:
            counted.codes[code] = self._requests.labels(self.stage, request.family, request.version, code)
        if request.rows and counted.rows is None:
            counted.rows = self._rows.labels(self.stage, request.family)
        counted.add(request, code, seconds)
        if request.model:
            self._versions.count(request.model, request.version, code, seconds, request.answers)

    def statistics(self, name: str, versions: Sequence[str]) -> pb.ModelStatisticsResponse:
        """The counts since start as OIP has them, for the versions of a model or family; `name` empty means all."""
        shown = {(name, version): _Sums() for version in versions} if name else {}
        for (family, model, version), counted in sorted(self._counted.items(), key=itemgetter(0)):
            if not name and model:
                shown[model, version] = counted.sums
            elif model and name in (family, model) and version in versions:
                shown[name, version] += counted.sums
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
