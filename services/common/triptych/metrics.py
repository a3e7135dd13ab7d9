"""What a stage counts: Prometheus series, the same counts as OIP ModelStatistics, log lines and the request's span.

Label values come from closed sets: family, model and version only after the catalogue knew them
(`Request.known`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from tritonclient.grpc import service_pb2 as pb

from triptych.call import Call
from triptych.status import status_of
from triptych.tracing import Tracing
from triptych.version_metrics import VersionMetrics

log = logging.getLogger("triptych.request")

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


# A part of a request, as OIP statistics call it; perf_analyzer shows these, and finds a version by its queue count.
_OIP_PARTS = {"transform": "compute_input", "predict": "compute_infer", "postprocess": "compute_output"}


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
        each.queue.count = self.requests
        for part, name in _OIP_PARTS.items():
            duration = getattr(each, name)
            duration.count, duration.ns = self.requests, self.parts_ns.get(part, 0)
        return statistics


@dataclass
class Request:
    """The request in hand; the servicer fills in what it learns."""

    id: str
    family: str = "-"
    model: str = ""
    version: str = "-"
    rows: int = 0
    parts: dict[str, float] = field(default_factory=dict)
    answers: Mapping[str, int] = field(default_factory=dict)  # rows by value, where the contract observes one

    def known(self, family: str, model: str, version: str) -> None:
        self.family, self.model, self.version = family, model, version

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Times one part of the work, in seconds."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - start


_current: ContextVar[Request] = ContextVar("request")


def current() -> Request:
    """The request that this task works on."""
    return _current.get()


class StageMetrics:
    """The metrics of one stage, in a registry of its own."""

    def __init__(self, stage: str, tracing: Tracing) -> None:
        self.stage = stage
        self.registry = CollectorRegistry()
        self.tracing = tracing
        self._sums: dict[tuple[str, str, str], _Sums] = defaultdict(_Sums)
        labels = ("stage", "family", "version")
        self._requests = Counter(
            "triptych_requests", "Requests by gRPC code", (*labels, "code"), registry=self.registry
        )
        self._seconds = Histogram(
            "triptych_request_seconds",
            "Whole requests",
            labels,
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self._parts = Histogram(
            "triptych_part_seconds",
            "Parts of requests",
            ("stage", "part"),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self._rows = Histogram(
            "triptych_request_rows",
            "Rows of requests",
            ("stage", "family"),
            buckets=ROW_BUCKETS,
            registry=self.registry,
        )
        self._in_flight = Gauge("triptych_in_flight", "Requests being worked on", ("stage",), registry=self.registry)
        self._refused = Counter(
            "triptych_refused", "Requests refused by the queue limit", ("stage",), registry=self.registry
        )
        self._versions = VersionMetrics(stage, self.registry)
        self._in_flight.labels(stage)
        self._refused.labels(stage)

    def serve(self, host: str, port: int) -> None:
        """The Prometheus endpoint, in a thread of its own; port 0 switches it off."""
        if port:
            try:
                start_http_server(port, host, self.registry)
            except OSError as error:
                raise OSError(f"cannot serve metrics on {host}:{port}: {error.strerror}") from error

    def refused(self) -> None:
        self._refused.labels(self.stage).inc()
        self._requests.labels(self.stage, "-", "-", "RESOURCE_EXHAUSTED").inc()

    @contextlib.contextmanager
    def request(self, message: pb.ModelInferRequest, call: Call) -> Iterator[None]:
        """Around one request: counts it, times it, logs its failure, and is its span."""
        request = Request(message.id)
        token = _current.set(request)
        in_flight = self._in_flight.labels(self.stage)
        in_flight.inc()
        start = time.perf_counter()
        code = "OK"
        with self.tracing.span(self.stage, call) as span:
            try:
                yield
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except Exception as error:
                status, text = status_of(error)
                code = status.name
                span.failed(code, text)
                log.info(
                    "refused",
                    extra={"id": message.id, "model": message.model_name, "code": code, "text": text},
                )
                raise
            finally:
                in_flight.dec()
                _current.reset(token)
                span.describe(request.model, request.version, request.rows)
                self._count(request, code, time.perf_counter() - start)

    def _count(self, request: Request, code: str, seconds: float) -> None:
        self._requests.labels(self.stage, request.family, request.version, code).inc()
        self._seconds.labels(self.stage, request.family, request.version).observe(seconds)
        for part, part_s in request.parts.items():
            self._parts.labels(self.stage, part).observe(part_s)
        if request.rows:
            self._rows.labels(self.stage, request.family).observe(request.rows)
        log.debug("answered", extra={"id": request.id, "model": request.model, "code": code, "seconds": seconds})
        if not request.model:
            return
        self._versions.count(request.model, request.version, code, seconds, request.answers)
        sums = self._sums[request.family, request.model, request.version]
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
