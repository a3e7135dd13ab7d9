"""Series by model and version, for models with two versions in use: a rollout compares them.

Models with one version make no series here, so that the cardinality follows the rollouts that this process has seen.
It is bounded by MAX_MODELS models, each with its versions, gRPC codes, SECONDS_BUCKETS and observed values. The
contract's `observe` names a closed set of at most 65 values.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

MAX_MODELS = 100
# Half as wide as LATENCY_BUCKETS: a version twice as slow is at least two buckets away.
SECONDS_BUCKETS = tuple(
    round(step * 10**power, 5) for power in range(-3, 1) for step in (1, 1.5, 2, 3, 5, 7.5)
)  # 1 ms to 7.5 s


class VersionMetrics:
    """Counts requests by model and version, once a second version of the model gets requests."""

    def __init__(self, stage: str, registry: CollectorRegistry) -> None:
        self._stage = stage
        self._seen: dict[str, set[str]] = {}
        self._compared: set[str] = set()
        labels = ("stage", "model", "version")
        self._requests = Counter(
            "triptych_version_requests",
            "Requests by gRPC code, of models that two versions answer for",
            (*labels, "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "triptych_version_seconds",
            "Requests that were answered, of models that two versions answer for",
            labels,
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._answers = Counter(
            "triptych_version_answers",
            "Rows by the value that the contract observes, of models that two versions answer for",
            (*labels, "value"),
            registry=registry,
        )

    def count(self, model: str, version: str, code: str, seconds: float, answers: Mapping[str, int]) -> None:
        """Count a request. The catalog knows its model and version; `answers` are rows by value."""
        if not self._is_compared(model, version):
            return
        self._requests.labels(self._stage, model, version, code).inc()
        if code == "OK":
            self._seconds.labels(self._stage, model, version).observe(seconds)
        for value, rows in answers.items():
            self._answers.labels(self._stage, model, version, value).inc(rows)

    def _is_compared(self, model: str, version: str) -> bool:
        if model in self._compared:
            return True
        versions = self._seen.get(model)
        if versions is None:
            versions = self._seen[model] = set()
        versions.add(version)
        if len(versions) < 2 or len(self._compared) >= MAX_MODELS:
            return False
        self._compared.add(model)
        del self._seen[model]
        return True
