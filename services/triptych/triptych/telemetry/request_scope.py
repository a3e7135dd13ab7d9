"""Scope of one request: its metrics, its span and the log line of its failure."""

from __future__ import annotations

import logging
import time

from tritonclient.grpc import service_pb2 as pb

from triptych.errors import Overloaded, clipped
from triptych.protocol.call import Call
from triptych.protocol.status import outcome_code, status_of
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.request_record import CURRENT_REQUEST, RequestRecord
from triptych.telemetry.spans import Span

log = logging.getLogger("triptych.request")


class RequestScope:
    """Context manager around one request. A request whose answer is still unsent is counted when it is sent."""

    __slots__ = ("_call", "_message", "_metrics", "_record", "_span", "_span_scope", "_start", "_token")

    def __init__(self, metrics: StageMetrics, message: pb.ModelInferRequest, call: Call) -> None:
        self._metrics, self._message, self._call = metrics, message, call
        self._record = RequestRecord(message.id)
        self._span_scope = metrics.tracing.span(metrics.stage, call) if metrics.tracing.is_on else None
        self._span: Span | None = None

    def __enter__(self) -> None:
        self._token = CURRENT_REQUEST.set(self._record)
        self._start = time.perf_counter()
        if self._span_scope is not None:
            self._span = self._span_scope.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        record, code = self._record, "OK"
        if error is not None:
            self._call.failed_request = record.ensure_id()
            code = self._fail(error) if isinstance(error, Exception) else outcome_code(error, self._call)
        CURRENT_REQUEST.reset(self._token)
        if self._span is not None and self._span_scope is not None:
            self._span.describe(record.model, record.version, record.rows)
            self._span_scope.__exit__(None, None, None)
        seconds = time.perf_counter() - self._start
        if code == "OK" and self._call.on_settled is not None:
            metrics = self._metrics  # not this object, which holds the request
            self._call.on_settled.append(lambda outcome: metrics.count(record, outcome, seconds))
        else:
            self._metrics.count(record, code, seconds)
        if log.isEnabledFor(logging.DEBUG):
            fields = {"id": clipped(record.ensure_id()), "model": record.model, "code": code, "seconds": seconds}
            log.debug("request answered", extra=fields)

    def _fail(self, error: BaseException) -> str:
        """Log the failure and mark the span. Return the name of the code."""
        status, text = status_of(error)
        if self._span is not None:
            self._span.failed(status.name, text)
        fields = _fields(self._record.ensure_id(), self._message.model_name, status.name, text)
        if isinstance(error, Overloaded):
            suppressed = self._metrics.count_shed()
            if suppressed is None:
                return status.name
            fields["suppressed"] = suppressed
        log.info("request refused", extra=fields)
        return status.name


def _fields(request_id: str, model: str, code: str, text: str) -> dict[str, object]:
    """Fields of a log line about a request. Texts of the caller are clipped."""
    return {"id": clipped(request_id), "model": clipped(model), "code": code, "text": text}
