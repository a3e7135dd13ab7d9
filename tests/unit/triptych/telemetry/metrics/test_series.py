"""Our counters and histograms write the same page as those of prometheus_client."""

from __future__ import annotations

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from triptych.telemetry.metrics.series import Counter, Histogram

BUCKETS = (0.001, 0.5, 1, 2, 10)


def page(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 20) | st.sampled_from(BUCKETS))))
def test_a_histogram_is_that_of_the_library(seen: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    own = Histogram("seconds", "Some text", ("stage",), BUCKETS, ours)
    known = prometheus_client.Histogram("seconds", "Some text", ("stage",), buckets=BUCKETS, registry=theirs)
    for stage, value in seen:
        own.labels(stage).observe(value)
        known.labels(stage).observe(value)
    assert page(ours) == page(theirs)


@given(st.lists(st.sampled_from([("a", "OK"), ("a", "NOT_FOUND"), ("b", "OK")])))
def test_a_counter_is_that_of_the_library(seen: list[tuple[str, str]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    own = Counter("requests", "Some text", ("stage", "code"), ours)
    known = prometheus_client.Counter("requests", "Some text", ("stage", "code"), registry=theirs)
    for labels in seen:
        own.labels(*labels).value += 1
        known.labels(*labels).inc()
    assert page(ours) == page(theirs)


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    Counter("requests", "Some text", (), registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Histogram("requests", "Some text", (), BUCKETS, registry)
