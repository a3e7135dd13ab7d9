"""What is written about requests that are refused."""

from __future__ import annotations

import logging

import pytest
from tritonclient.grpc import service_pb2 as pb

from triptych import metrics
from triptych.call import Call
from triptych.errors import InvalidInput, Overloaded, TriptychError
from triptych.metrics import StageMetrics
from triptych.tracing import Tracing


def refuse(stage: StageMetrics, error: TriptychError, times: int) -> None:
    for number in range(times):
        with (
            pytest.raises(type(error)),
            stage.request(pb.ModelInferRequest(model_name="m", id=f"id-{number}"), Call.within(1)),
        ):
            raise error


def counted(stage: StageMetrics, name: str, **labels: str) -> float | None:
    return stage.registry.get_sample_value(name, {"stage": "s", **labels})


def test_each_wrong_request_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    stage = StageMetrics("s", Tracing())
    with caplog.at_level(logging.INFO, "triptych.request"):
        refuse(stage, InvalidInput("x", "FP32[n]", "FP64[n]"), 3)
    assert [record.__dict__["id"] for record in caplog.records] == ["id-0", "id-1", "id-2"]
    assert counted(stage, "triptych_refused_total") == 0


def test_those_for_which_there_is_no_room_have_one_line_together(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = StageMetrics("s", Tracing())
    with caplog.at_level(logging.INFO, "triptych.request"):
        refuse(stage, Overloaded("full"), 5)
        monkeypatch.setattr(metrics, "TOLD_S", 0.0)
        refuse(stage, Overloaded("full"), 1)
    lines = [(record.__dict__["text"], record.__dict__["and_before"]) for record in caplog.records]
    assert lines == [("full", 0), ("full", 4)]
    assert counted(stage, "triptych_refused_total") == 6
    assert counted(stage, "triptych_requests_total", family="-", version="-", code="RESOURCE_EXHAUSTED") == 6
