"""What the repository counts beside what every stage counts."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OUTCOMES = ("ok", "failed", "unavailable")
LOAD_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class RepositoryMetrics:
    """Series of the control plane; `predictors` are the addresses in the settings, a closed set."""

    def __init__(self, registry: CollectorRegistry, predictors: Iterable[str]) -> None:
        self.models = Gauge("triptych_models", "Models that are served", registry=registry)
        self.invalid = Gauge("triptych_versions_invalid", "Versions and models kept out of traffic", registry=registry)
        self.loads = Counter("triptych_model_loads", "Loads into Triton", ("outcome",), registry=registry)
        self.load_seconds = Histogram(
            "triptych_model_load_seconds", "Duration of loads", buckets=LOAD_BUCKETS, registry=registry
        )
        self.loading = Gauge("triptych_model_loads_pending", "Loads that run or wait", registry=registry)
        self.resident = Gauge("triptych_models_resident", "Models ready in a Triton", ("predictor",), registry=registry)
        self.watchers = Gauge("triptych_watchers", "Streams that follow the catalogue", registry=registry)
        for outcome in OUTCOMES:
            self.loads.labels(outcome)
        for predictor in predictors:
            self.resident.labels(predictor)
