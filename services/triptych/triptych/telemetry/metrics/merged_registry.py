"""One metrics page for several stages in one process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy

from prometheus_client import CollectorRegistry, Metric


def merged_registry(*registries: CollectorRegistry) -> CollectorRegistry:
    """Several registries as one. The series of a metric stand together, as the exposition format requires."""
    merged = CollectorRegistry()
    merged.register(_Merged(registries))
    return merged


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
