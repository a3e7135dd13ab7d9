"""Series by model and version: only for models that two versions answer for."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from triptych.telemetry.metrics.version_metrics import MAX_MODELS, VersionMetrics


class Page:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = VersionMetrics("preprocess", self.registry)

    def count(self, model: str, version: str, code: str = "OK", **answers: int) -> None:
        self.metrics.count(model, version, code, 0.004, answers)

    def lines(self, start: str) -> list[str]:
        page = generate_latest(self.registry).decode().splitlines()
        return [line for line in page if line.startswith(start) and "_created" not in line]


def test_a_thousand_models_of_one_version_make_no_series() -> None:
    page = Page()
    for number in range(1000):
        page.count(f"m{number}", "1")
    assert not page.lines("triptych_version")


def test_from_the_second_version_on_both_count() -> None:
    page = Page()
    page.count("m", "1")
    page.count("m", "2", "INTERNAL")
    page.count("m", "1", one=2)
    assert page.lines("triptych_version_requests_total") == [
        'triptych_version_requests_total{code="INTERNAL",model="m",stage="preprocess",version="2"} 1.0',
        'triptych_version_requests_total{code="OK",model="m",stage="preprocess",version="1"} 1.0',
    ]
    assert page.lines("triptych_version_answers_total") == [
        'triptych_version_answers_total{model="m",stage="preprocess",value="one",version="1"} 2.0'
    ]
    (count,) = page.lines("triptych_version_seconds_count")
    assert 'version="1"' in count  # a failure says nothing of how long an answer takes


def test_the_number_of_models_is_bounded() -> None:
    page = Page()
    for number in range(MAX_MODELS + 20):
        for version in ("1", "2"):
            page.count(f"m{number}", version)
    assert len(page.lines("triptych_version_requests_total")) == MAX_MODELS
    page.count("m0", "1")
    assert len(page.lines("triptych_version_requests_total")) == MAX_MODELS + 1
