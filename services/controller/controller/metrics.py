"""Metrics of the controller, beside those of every stage."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OUTCOMES = ("ok", "failed", "unavailable", "refused")
REASONS = ("capacity", "headroom", "idle", "surplus", "removed", "changed", "warm-up", "failing")
WARM_UPS = ("ok", "failed", "unclear", "unavailable")
WARM_UP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30)
LOAD_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

CHANGED = "Published versions whose files changed or cannot be read; they are not loaded again"
STORE_READ = "Unix time at which the models were last read; 0 before the first time"
SKIPPED = "Objects of the store that cannot be files of a model or cannot be read; the log names them"
BY_PREDICTOR = {
    "up": "1 while the predictor answers",
    "models": "Versions in its memory, with those being loaded and unloaded",
    "models_budget": "Versions that it may hold; 0 is no limit",
    "bytes": "Bytes that they take: measured, declared or estimated",
    "bytes_budget": "Bytes that they may take; 0 is no limit",
}


class Amount(Protocol):
    """Versions and bytes of one predictor."""

    @property
    def models(self) -> int: ...

    @property
    def bytes(self) -> int: ...


class ControllerMetrics:
    """Series of the control plane. A predictor has series while it exists."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge, counter = partial(Gauge, registry=registry), partial(Counter, registry=registry)
        seconds = partial(Histogram, registry=registry)
        self.models = gauge("triptych_models", "Models that are served")
        self.invalid = gauge("triptych_versions_invalid", "Invalid versions and models, which get no traffic")
        self.changed = gauge("triptych_versions_changed", CHANGED)
        self.faults = gauge("triptych_catalog_faults", "Faults in models and documents")
        self.store_up = gauge("triptych_store_up", "1 while the models can be read from their folder or store")
        self.store_read = gauge("triptych_store_read_timestamp_seconds", STORE_READ)
        self.objects_skipped = gauge("triptych_store_objects_skipped", SKIPPED)
        self.loads = counter("triptych_model_loads", "Loads into predictors", ("outcome",))
        self.load_seconds = seconds("triptych_model_load_seconds", "Duration of loads", buckets=LOAD_BUCKETS)
        self.loading = gauge("triptych_model_loads_pending", "Loads that run or wait")
        self.warm_ups = counter("triptych_model_warm_ups", "Warm-ups of loaded versions", ("outcome",))
        self.warm_up_seconds = seconds(
            "triptych_model_warm_up_seconds", "Duration of warm-ups", buckets=WARM_UP_BUCKETS
        )
        self.unloads = counter("triptych_model_unloads", "Versions unloaded from predictors", ("reason",))
        self.reloads = counter("triptych_model_reloads", "Versions loaded again because they could not run")
        self.failing = gauge(
            "triptych_versions_failing", "Versions that a predictor has ready and that cannot run there"
        )
        self.cold_requests = counter("triptych_cold_requests", "Calls for a version that no predictor had ready")
        self.watchers = gauge("triptych_watchers", "Streams that watch the catalog")
        self._by_predictor = [
            gauge(f"triptych_predictor_{name}", text, ("predictor",)) for name, text in BY_PREDICTOR.items()
        ]
        for series, values in ((self.loads, OUTCOMES), (self.warm_ups, WARM_UPS), (self.unloads, REASONS)):
            for value in values:
                series.labels(value)

    def show(self, predictor: str, answers: bool, taken: Amount, budget: Amount) -> None:
        """Set the series of one predictor."""
        values = (int(answers), taken.models, budget.models, taken.bytes, budget.bytes)
        for gauge, value in zip(self._by_predictor, values, strict=True):
            gauge.labels(predictor).set(value)

    def forget(self, predictor: str) -> None:
        """Remove the series of a predictor that is gone."""
        for gauge in self._by_predictor:
            with suppress(KeyError):
                gauge.remove(predictor)
