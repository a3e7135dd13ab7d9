"""Metrics of jobs, beside those of each stage."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge


class JobsMetrics:
    """The series of jobs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open_parts = Gauge(
            "triptych_jobs_open_parts",
            "Parts that are known and not committed, with plan and manifest, of all jobs that have not ended; workers "
            "are scaled by it",
            registry=registry,
        )
