from __future__ import annotations

import gc

from tritonclient.grpc import service_pb2 as pb

from triptych.protocol.call import Call
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.request_scope import RequestScope
from triptych.telemetry.tracing import Tracing


def test_a_request_is_not_held_while_its_answer_waits_to_be_read() -> None:
    call, request = Call.within(1), pb.ModelInferRequest(id="1")
    call.on_settled = []
    with RequestScope(StageMetrics("x", Tracing()), request, call):
        pass
    assert call.on_settled
    gc.collect()
    assert not [each for each in gc.get_referrers(request) if isinstance(each, RequestScope)]
    call.settle("OK")
