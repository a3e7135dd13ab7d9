from __future__ import annotations

import gc
from contextlib import suppress

import pytest
from tritonclient.grpc import service_pb2 as pb

from triptych.errors import UnknownModel
from triptych.protocol.call import Call
from triptych.telemetry import request_record
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.request_scope import RequestScope
from triptych.telemetry.tracing import Tracing


def test_an_id_is_made_for_a_request_that_failed_without_one_and_for_no_other(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iter(("made-1", "made-2"))
    monkeypatch.setattr(request_record, "new_request_id", made.__next__)
    stage = StageMetrics("x", Tracing())
    calls = {sent: Call.within(1) for sent in ("", "theirs")}
    with RequestScope(stage, pb.ModelInferRequest(), Call.within(1)):
        pass
    for sent, call in calls.items():
        with caplog.at_level("INFO"), suppress(UnknownModel), RequestScope(stage, pb.ModelInferRequest(id=sent), call):
            raise UnknownModel("m")
    assert [call.failed_request for call in calls.values()] == ["made-1", "theirs"]
    assert [vars(record)["id"] for record in caplog.records] == ["made-1", "theirs"]
    assert next(made) == "made-2"


def test_a_request_is_not_held_while_its_answer_waits_to_be_read() -> None:
    call, request = Call.within(1), pb.ModelInferRequest(id="1")
    call.on_settled = []
    with RequestScope(StageMetrics("x", Tracing()), request, call):
        pass
    assert call.on_settled
    gc.collect()
    assert not [each for each in gc.get_referrers(request) if isinstance(each, RequestScope)]
    call.settle("OK")
