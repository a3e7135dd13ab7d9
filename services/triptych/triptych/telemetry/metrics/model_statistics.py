"""Sums of requests by model and version in the form of OIP's ModelStatistics."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from tritonclient.grpc import service_pb2 as pb

# OIP's name of each part of a request. perf_analyzer shows them, and finds a version by its queue count.
_OIP_PARTS = {
    "queue": "queue",
    "transform": "compute_input",
    "predict": "compute_infer",
    "postprocess": "compute_output",
}


@dataclass
class ModelSums:
    """Sums since the start, for one model and version."""

    requests: int = 0
    rows: int = 0
    success_s: float = 0.0
    failures: int = 0
    failure_s: float = 0.0
    last_s: float = 0.0  # time of the last success, since the epoch
    parts_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __add__(self, other: ModelSums) -> ModelSums:
        return ModelSums(
            self.requests + other.requests,
            self.rows + other.rows,
            self.success_s + other.success_s,
            self.failures + other.failures,
            self.failure_s + other.failure_s,
            max(self.last_s, other.last_s),
            {part: self.parts_s.get(part, 0.0) + other.parts_s.get(part, 0.0) for part in _OIP_PARTS},
        )

    def message(self, model: str, version: str) -> pb.ModelStatistics:
        """The sums as OIP's message."""
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
