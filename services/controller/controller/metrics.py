"""Metrics of the controller, beside those of every stage."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OUTCOMES = ("ok", "failed", "unavailable", "refused")
REASONS = ("capacity", "headroom", "idle", "surplus", "removed", "changed", "warm-up", "failing")
WARM_UPS = ("ok", "failed", "unclear", "unavailable")
WARM_UP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30)
LOAD_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Amount(Protocol):
    """Versions and bytes of one predictor."""

    @property
    def models(self) -> int: ...

    @property
    def bytes(self) -> int: ...


class ControllerMetrics:
    """Series of the control plane. A predictor has series while it exists."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.models = Gauge("triptych_models", "Models that are served", registry=registry)
        self.invalid = Gauge(
            "triptych_versions_invalid", "Invalid versions and models, which get no traffic", registry=registry
        )
        self.changed = Gauge(
            "triptych_versions_changed",
            "Published versions whose files changed or cannot be read; they are not loaded again",
            registry=registry,
        )
        self.faults = Gauge("triptych_catalog_faults", "Faults in models and documents", registry=registry)
        self.store_up = Gauge(
            "triptych_store_up", "1 while the models can be read from their folder or store", registry=registry
        )
        self.store_read = Gauge(
            "triptych_store_read_timestamp_seconds",
            "Unix time at which the models were last read; 0 before the first time",
            registry=registry,
        )
        self.objects_skipped = Gauge(
            "triptych_store_objects_skipped",
            "Objects of the store that cannot be files of a model or cannot be read; the log names them",
            registry=registry,
        )
        self.loads = Counter("triptych_model_loads", "Loads into predictors", ("outcome",), registry=registry)
        self.load_seconds = Histogram(
            "triptych_model_load_seconds", "Duration of loads", buckets=LOAD_BUCKETS, registry=registry
        )
        self.loading = Gauge("triptych_model_loads_pending", "Loads that run or wait", registry=registry)
        self.warm_ups = Counter(
            "triptych_model_warm_ups", "Warm-ups of loaded versions", ("outcome",), registry=registry
        )
        self.warm_up_seconds = Histogram(
            "triptych_model_warm_up_seconds", "Duration of warm-ups", buckets=WARM_UP_BUCKETS, registry=registry
        )
        self.unloads = Counter(
            "triptych_model_unloads", "Versions unloaded from predictors", ("reason",), registry=registry
        )
        self.reloads = Counter(
            "triptych_model_reloads", "Versions loaded again because they could not run", registry=registry
        )
        self.failing = Gauge(
            "triptych_versions_failing",
            "Versions that a predictor has ready and that cannot run there",
            registry=registry,
        )
        self.cold_requests = Counter(
            "triptych_cold_requests", "Calls for a version that no predictor had ready", registry=registry
        )
        self.watchers = Gauge("triptych_watchers", "Streams that watch the catalog", registry=registry)
        self._by_predictor = {
            name: Gauge(f"triptych_predictor_{name}", text, ("predictor",), registry=registry)
            for name, text in (
                ("up", "1 while the predictor answers"),
                ("models", "Versions in its memory, with those being loaded and unloaded"),
                ("models_budget", "Versions that it may hold; 0 is no limit"),
                ("bytes", "Bytes that they take: measured, declared or estimated"),
                ("bytes_budget", "Bytes that they may take; 0 is no limit"),
            )
        }
        for outcome in OUTCOMES:
            self.loads.labels(outcome)
        for outcome in WARM_UPS:
            self.warm_ups.labels(outcome)
        for reason in REASONS:
            self.unloads.labels(reason)

    def show(self, predictor: str, answers: bool, taken: Amount, budget: Amount) -> None:
        """Set the series of one predictor."""
        values = (int(answers), taken.models, budget.models, taken.bytes, budget.bytes)
        for gauge, value in zip(self._by_predictor.values(), values, strict=True):
            gauge.labels(predictor).set(value)

    def forget(self, predictor: str) -> None:
        """Remove the series of a predictor that is gone."""
        for gauge in self._by_predictor.values():
            with suppress(KeyError):
                gauge.remove(predictor)
