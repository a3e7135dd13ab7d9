"""Differences of counters within a window, and counters read from pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from triptych.telemetry.metrics.version_metrics import VersionMetrics
from triptych_cli.rollout.metrics.counts import Counts, Reading, Window
from triptych_cli.rollout.metrics.sources import EndpointSource, MetricSourceError, PrometheusSource

URL, OTHER = "http://a/metrics", "http://b/metrics"


class Stage:
    """The series of one stage's process, and its page."""

    def __init__(self, stage: str = "preprocess") -> None:
        self.registry = CollectorRegistry()
        self.metrics = VersionMetrics(stage, self.registry)

    def count(self, version: str, times: int = 1, code: str = "OK", model: str = "m", **answers: int) -> None:
        for _ in range(times):
            self.metrics.count(model, version, code, 0.004, answers)

    def page(self) -> str:
        return generate_latest(self.registry).decode()


def reader(pages: Mapping[str, Callable[[], str]], model: str = "m") -> EndpointSource:
    return EndpointSource(model, lambda: list(pages), lambda url: pages[url]())


def compared(stage: str = "preprocess") -> Stage:
    """A process with requests to both versions of the model."""
    made = Stage(stage)
    made.count("1")
    made.count("2")
    return made


def test_only_what_came_after_the_opening_counts() -> None:
    stage, window = compared(), Window()
    source = reader({URL: stage.page})
    stage.count("1", 5)
    window.add(source.read())
    window.open()
    stage.count("1", 19)
    stage.count("2", 3)
    stage.count("2", 2, code="INTERNAL")
    window.add(source.read())
    counts = window.counts()
    assert (counts["1"].requests, counts["1"].errors) == (19, 0)
    assert (counts["2"].requests, counts["2"].errors, counts["2"].codes["INTERNAL"]) == (5, 2, 2)
    assert sum(counts["2"].latency_buckets.values()) == 3
    assert counts["2"].quantile(0.5) == pytest.approx(0.004, abs=0.001)


def test_a_version_that_is_asked_for_the_first_time_counts_from_zero() -> None:
    stage, window = Stage(), Window()
    source = reader({URL: stage.page})
    stage.count("1", 100)
    window.add(source.read())
    window.open()
    stage.count("2", 4)
    window.add(source.read())
    assert window.counts()["2"].requests == 4


def test_a_process_that_started_anew_counts_from_zero() -> None:
    stages, window = [compared()], Window()
    source = reader({URL: lambda: stages[-1].page()})
    stages[-1].count("1", 50)
    window.add(source.read())
    window.open()
    stages.append(compared())
    stages[-1].count("1", 6)
    window.add(source.read())
    assert window.counts()["1"].requests == 6


def test_a_process_that_comes_within_the_window_starts_from_what_it_shows_first() -> None:
    first, second, window = compared(), compared(), Window()
    pages = {URL: first.page}
    source = reader(pages)
    window.add(source.read())
    window.open()
    second.count("1", 1000)
    pages[OTHER] = second.page
    window.add(source.read())
    second.count("1", 7)
    window.add(source.read())
    assert window.counts()["1"].requests == 7


def test_what_a_process_counted_until_it_went_is_kept() -> None:
    first, second, window = compared(), compared(), Window()

    def gone() -> str:
        raise ConnectionRefusedError("gone")

    pages = {URL: first.page, OTHER: second.page}
    source = reader(pages)
    window.add(source.read())
    window.open()
    second.count("2", 8)
    window.add(source.read())
    pages[OTHER] = gone
    first.count("2", 1)
    window.add(source.read())
    assert window.counts()["2"].requests == 9


def test_answers_come_from_postprocess_and_requests_from_preprocess() -> None:
    before, after, window = compared(), compared("postprocess"), Window()
    source = reader({URL: before.page, OTHER: after.page})
    window.add(source.read())
    window.open()
    before.count("2", 3)
    after.count("2", 3, seven=2, one=1)
    window.add(source.read())
    assert window.counts()["2"].requests == 3
    assert window.counts()["2"].answers == {"seven": 6, "one": 3}


def test_other_models_do_not_count() -> None:
    stage, window = compared(), Window()
    source = reader({URL: stage.page})
    window.add(source.read())
    window.open()
    stage.count("1", model="m_de")
    stage.count("2", 5, model="m_de")
    window.add(source.read())
    assert all(not counts.requests for counts in window.counts().values())


def test_no_endpoint_at_all_is_reported_with_the_reason() -> None:
    def refused() -> str:
        raise ConnectionRefusedError("Connection refused")

    with pytest.raises(MetricSourceError, match=f"no metrics endpoint answers .{URL}: Connection refused.; --metrics"):
        reader({URL: refused}).read()


def test_an_empty_bucket_still_limits_the_next_one() -> None:
    counts = Counts()
    counts.latency_buckets.update({0.1: 0, 0.2: 100, float("inf"): 0})
    assert (counts + Counts()).quantile(0.5) == pytest.approx(0.15)
    assert counts.quantile(1.0) == pytest.approx(0.2)


def test_what_lies_above_the_last_limit_counts_as_that_limit() -> None:
    counts = Counts()
    counts.latency_buckets.update({0.1: 1, float("inf"): 9})
    assert counts.quantile(0.99) == pytest.approx(0.1)


def prometheus(pages: list[dict[str, Any]]) -> tuple[PrometheusSource, list[str]]:
    asked: list[str] = []

    def fetch(url: str) -> str:
        asked.append(url)
        return json.dumps(pages[(len(asked) - 1) // 2] if "in_flight" not in url else PRESENT)

    return PrometheusSource("m", "http://prometheus:9090/", fetch), asked


def vector(*entries: tuple[dict[str, str], float]) -> dict[str, Any]:
    result = [{"metric": labels, "value": [0, str(value)]} for labels, value in entries]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


POD = {"job": "preprocess", "instance": "10.0.0.1:9100"}
PRESENT = vector(({"__name__": "triptych_in_flight", **POD, "stage": "preprocess"}, 0))


def test_prometheus_is_read_by_process_and_its_own_labels_do_not_matter() -> None:
    name = {"__name__": "triptych_version_requests_total", "stage": "preprocess", "model": "m", "version": "2"}
    first = vector(({**name, **POD, "code": "OK", "namespace": "x"}, 5.0))
    second = vector(({**name, **POD, "code": "OK", "namespace": "x"}, 9.0))
    source, asked = prometheus([first, second])
    window = Window()
    window.add(source.read())
    window.open()
    window.add(source.read())
    assert window.counts()["2"].codes == {"OK": 4}
    assert asked[0].startswith("http://prometheus:9090/api/v1/query?query=triptych_in_flight")
    assert "model%3D%22m%22" in asked[1]


def test_prometheus_that_refuses_is_quoted() -> None:
    source = PrometheusSource("m", "http://p", lambda _url: '{"status": "error", "error": "query timed out"}')
    with pytest.raises(MetricSourceError, match="refused the query: query timed out"):
        source.read()


def test_a_window_without_any_reading_is_empty() -> None:
    window = Window()
    window.add(Reading([], frozenset()))
    assert not window.counts()
