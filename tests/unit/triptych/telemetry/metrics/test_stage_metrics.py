"""Log lines and counts of refused requests."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import generate_latest
from tritonclient.grpc import service_pb2 as pb

from triptych.errors import InvalidInput, Overloaded, TriptychError
from triptych.protocol.call import Call
from triptych.telemetry.metrics import stage_metrics
from triptych.telemetry.metrics.merged_registry import merged_registry
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.request_record import current_request
from triptych.telemetry.request_scope import RequestScope
from triptych.telemetry.tracing import Tracing


def refuse(stage: StageMetrics, error: TriptychError, times: int) -> None:
    for number in range(times):
        with (
            pytest.raises(type(error)),
            RequestScope(stage, pb.ModelInferRequest(model_name="m", id=f"id-{number}"), Call.within(1)),
        ):
            raise error


def counted(stage: StageMetrics, name: str, **labels: str) -> float | None:
    return stage.registry.get_sample_value(name, {"stage": "s", **labels})


def test_each_wrong_request_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    stage = StageMetrics("s", Tracing())
    with caplog.at_level(logging.INFO, "triptych.request"):
        refuse(stage, InvalidInput("x", "FP32[n]", "FP64[n]"), 3)
    assert [record.__dict__["id"] for record in caplog.records] == ["id-0", "id-1", "id-2"]
    assert counted(stage, "triptych_shed_requests_total") == 0


def test_those_for_which_there_is_no_capacity_have_one_line_together(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = StageMetrics("s", Tracing())
    with caplog.at_level(logging.INFO, "triptych.request"):
        refuse(stage, Overloaded("full"), 5)
        monkeypatch.setattr(stage_metrics, "SHED_LOG_INTERVAL_S", 0.0)
        refuse(stage, Overloaded("full"), 1)
    lines = [(record.__dict__["text"], record.__dict__["suppressed"]) for record in caplog.records]
    assert lines == [("full", 0), ("full", 4)]
    assert counted(stage, "triptych_shed_requests_total") == 6
    assert counted(stage, "triptych_requests_total", family="-", version="-", code="RESOURCE_EXHAUSTED") == 6


def test_the_series_of_two_stages_are_grouped_however_often_they_are_read() -> None:
    first, second = (StageMetrics(stage, Tracing()) for stage in ("preprocess", "postprocess"))
    for stage, times in ((first, 2), (second, 3)):
        for _ in range(times):
            with RequestScope(stage, pb.ModelInferRequest(), Call.within(1)):
                current_request().identify("f", "m", "1")
    registry = merged_registry(first.registry, second.registry)
    pages = [generate_latest(registry).decode() for _ in range(2)]
    assert pages[0] == pages[1]
    assert pages[0].count("# TYPE triptych_requests_total counter") == 1
    for name, times in (("preprocess", 2), ("postprocess", 3)):
        line = f'triptych_requests_total{{code="OK",family="f",stage="{name}",version="1"}} {times}.0'
        assert pages[0].splitlines().count(line) == 1
    alone = generate_latest(first.registry).decode()
    assert "postprocess" not in alone
