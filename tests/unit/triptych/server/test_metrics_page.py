"""A page of metrics stands for a while, however often it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from triptych.server.probes import FAULT_PERIOD_S, LoopFaults, RenderedPage

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


class Slow(Collector):
    """Takes a second by the clock of the test, and counts."""

    now_s = 100.0
    rendered = 0

    def collect(self) -> Iterator[Metric]:
        self.now_s += 1.0
        self.rendered += 1
        yield GaugeMetricFamily("rendered", "How often", self.rendered)


def test_a_page_stands_four_times_as_long_as_it_took() -> None:
    slow, registry = Slow(), CollectorRegistry(auto_describe=False)
    registry.register(slow)
    slow.rendered = 0
    page = RenderedPage(registry, clock=lambda: slow.now_s)
    first = page.render("")
    for _ in range(39):
        slow.now_s += 0.1
        assert page.render("") == first
    assert slow.rendered == 1
    slow.now_s += 0.2
    assert page.render("") != first
    assert slow.rendered == 2


def test_a_page_of_another_format_is_another_page() -> None:
    slow, registry = Slow(), CollectorRegistry(auto_describe=False)
    registry.register(slow)
    page = RenderedPage(registry, clock=lambda: slow.now_s)
    assert page.render("")[0].startswith("text/plain")
    kind, body = page.render(OPEN_METRICS)
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert page.render("")[0].startswith("text/plain")
    assert slow.rendered == 2


def test_faults_of_the_loop_are_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    times_s = iter((0.0, 0.1, FAULT_PERIOD_S - 1, FAULT_PERIOD_S + 1))
    faults = LoopFaults(clock=lambda: next(times_s))
    loop = Mock()
    for _ in range(4):
        faults(loop, {"message": "out of descriptors", "exception": OSError(24, "Too many open files")})
    assert [record.message for record in caplog.records] == ["fault of the metrics port"] * 2
