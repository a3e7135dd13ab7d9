"""Metrics of jobs, beside those of each stage."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PART_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 150.0, 600.0)


class JobsMetrics:
    """The series of jobs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open_parts = Gauge(
            "triptych_jobs_open_parts",
            "Parts that are known and not committed, with plan and manifest, of all jobs that have not ended; workers "
            "are scaled by it",
            registry=registry,
        )
        self.rows = Counter(
            "triptych_jobs_rows_total",
            "Rows of parts that this process has committed: `answered`, or `bad`",
            ["outcome"],
            registry=registry,
        )
        self.parts = Counter(
            "triptych_jobs_parts_total",
            "Ends of the work on a part, plan and manifest too: `committed`; `failed`, a try that may be repeated; "
            "`postponed` because preprocess or a store was away or full; `returned` at the end of the process; "
            "`lost`, the lease ran out or the job was cancelled",
            ["outcome"],
            registry=registry,
        )
        self.part_seconds = Histogram(
            "triptych_jobs_part_seconds",
            "Work on a part with rows that was committed",
            buckets=PART_SECONDS,
            registry=registry,
        )

    def committed(self, rows: int, bad_rows: int, seconds: float | None) -> None:
        """Count a part; `seconds` is None for a plan and a manifest."""
        self.parts.labels("committed").inc()
        self.rows.labels("answered").inc(rows)
        self.rows.labels("bad").inc(bad_rows)
        if seconds is not None:
            self.part_seconds.observe(seconds)
