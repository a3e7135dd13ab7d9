"""Metrics of a stage: Prometheus series, and the same counts as OIP's ModelStatistics.

Label values come from closed sets: family, model and version only after the catalog knew them
(`RequestRecord.identify`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from operator import itemgetter

from prometheus_client import CollectorRegistry, Gauge
from tritonclient.grpc import service_pb2 as pb

from triptych.telemetry.metrics.model_statistics import ModelSums
from triptych.telemetry.metrics.series import Counter, CounterSeries, Histogram, HistogramSeries
from triptych.telemetry.metrics.stopwatch import Stopwatch
from triptych.telemetry.metrics.version_metrics import VersionMetrics
from triptych.telemetry.request_record import RequestRecord
from triptych.telemetry.spans import Tracing

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHED_LOG_INTERVAL_S = 1.0  # between two log lines about shed requests: under overload a line costs more than a refusal


class _PartHistograms(dict[str, HistogramSeries]):
    """Histogram series by part, looked up once each."""

    def __init__(self, stage: str, histogram: Histogram) -> None:
        super().__init__()
        self._stage, self._histogram = stage, histogram

    def __missing__(self, part: str) -> HistogramSeries:
        series = self[part] = self._histogram.labels(self._stage, part)
        return series


class _VersionSeries:
    """Series of one version of a model, looked up once: the lookup costs more than the counting."""

    __slots__ = ("codes", "rows", "seconds", "sums")

    def __init__(self, seconds: HistogramSeries) -> None:
        self.seconds = seconds
        self.rows: HistogramSeries | None = None  # made with the first request that has rows
        self.codes: dict[str, CounterSeries] = {}
        self.sums = ModelSums()

    def count(self, record: RequestRecord, code: str, seconds: float) -> None:
        self.codes[code].value += 1
        self.seconds.observe(seconds)
        if record.rows and self.rows is not None:
            self.rows.observe(record.rows)
        sums = self.sums
        if code == "OK":
            sums.requests += 1
            sums.rows += record.rows
            sums.success_s += seconds
            sums.last_s = time.time()
            for part, part_s in record.parts.items():
                sums.parts_s[part] += part_s
        else:
            sums.failures += 1
            sums.failure_s += seconds


class StageMetrics:
    """Metrics of one stage, in a registry of its own."""

    def __init__(self, stage: str, tracing: Tracing) -> None:
        self.stage = stage
        self.registry = CollectorRegistry()
        self.tracing = tracing
        self._series: dict[tuple[str, str, str], _VersionSeries] = {}
        labels = ("stage", "family", "version")
        self._requests = Counter("triptych_requests", "Requests by gRPC code", (*labels, "code"), self.registry)
        self._seconds = Histogram("triptych_request_seconds", "Whole requests", labels, LATENCY_BUCKETS, self.registry)
        parts = Histogram(
            "triptych_part_seconds",
            "Parts of the work, once for each batch",
            ("stage", "part"),
            LATENCY_BUCKETS,
            self.registry,
        )
        self._parts = _PartHistograms(stage, parts)
        self._rows = Histogram(
            "triptych_request_rows", "Rows of requests", ("stage", "family"), ROW_BUCKETS, self.registry
        )
        self._in_flight = Gauge("triptych_in_flight", "Requests in flight", ("stage",), registry=self.registry).labels(
            stage
        )
        self._shed = Counter(
            "triptych_shed_requests",
            "Requests refused because too many are in flight or wait",
            ("stage",),
            self.registry,
        ).labels(stage)
        self._shed_logged_s = float("-inf")
        self._suppressed = 0
        self._versions = VersionMetrics(stage, self.registry)

    def watch_in_flight(self, in_flight: Callable[[], int]) -> None:
        """Read the gauge of requests in flight from a function, at each scrape."""
        self._in_flight.set_function(in_flight)

    def count_shed(self) -> int | None:
        """Count a shed request. Return how many went unlogged before it; None if this one is not to be logged."""
        self._shed.value += 1
        now_s = time.monotonic()
        if now_s - self._shed_logged_s < SHED_LOG_INTERVAL_S:
            self._suppressed += 1
            return None
        suppressed, self._shed_logged_s, self._suppressed = self._suppressed, now_s, 0
        return suppressed

    def stopwatch(self, since_s: float | None = None) -> Stopwatch:
        """A stopwatch for parts. `since_s` (default: now) is by `time.monotonic`."""
        return Stopwatch(self._parts, time.monotonic() if since_s is None else since_s)

    def count(self, record: RequestRecord, code: str, seconds: float) -> None:
        """Count a request that has ended."""
        key = record.family, record.model, record.version
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _VersionSeries(self._seconds.labels(self.stage, record.family, record.version))
        if code not in series.codes:
            series.codes[code] = self._requests.labels(self.stage, record.family, record.version, code)
        if record.rows and series.rows is None:
            series.rows = self._rows.labels(self.stage, record.family)
        series.count(record, code, seconds)
        if record.model:
            self._versions.count(record.model, record.version, code, seconds, record.answers)

    def statistics(self, name: str, versions: Sequence[str]) -> pb.ModelStatisticsResponse:
        """OIP statistics since the start for versions of a model or family; an empty `name` selects all."""
        shown = {(name, version): ModelSums() for version in versions} if name else {}
        for (family, model, version), series in sorted(self._series.items(), key=itemgetter(0)):
            if not name and model:
                shown[model, version] = series.sums
            elif model and name in (family, model) and version in versions:
                shown[name, version] += series.sums
        response = pb.ModelStatisticsResponse()
        for (model, version), sums in shown.items():
            response.model_stats.append(sums.message(model, version))
        return response
