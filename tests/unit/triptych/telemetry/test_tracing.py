"""Spans, and the caller's trace context."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from triptych.protocol.call import Call
from triptych.telemetry.exported_spans import ExportedSpans
from triptych.telemetry.tracing import tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


def test_when_off_the_callers_context_goes_on_unchanged() -> None:
    call = Call.within(1, {"traceparent": TRACEPARENT, "other": "x"})
    with tracing("preprocess", "").span("preprocess", call):
        assert call.trace_metadata() == (("traceparent", TRACEPARENT),)


def test_three_stages_make_one_trace_each_under_the_one_before() -> None:
    exporter = InMemorySpanExporter()
    metadata = {"traceparent": TRACEPARENT}
    stages = ("preprocess", "postprocess", "controller")
    for stage in stages:
        exported, call = ExportedSpans(stage, "", exporter), Call.within(1, metadata)
        with exported.span(stage, call) as span:
            span.describe("digits_de", "1", 2)
            metadata = dict(call.trace_metadata())
        exported.flush()
    spans: dict[str, Any] = {span.name: span for span in exporter.get_finished_spans()}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE}
    parents = [spans[stage].parent.span_id for stage in stages]
    assert parents == [int(PARENT, 16), spans["preprocess"].context.span_id, spans["postprocess"].context.span_id]
    assert spans["preprocess"].attributes["triptych.model"] == "digits_de"


def test_a_failure_is_recorded_with_its_code() -> None:
    exporter = InMemorySpanExporter()
    exported = ExportedSpans("preprocess", "", exporter)
    with exported.span("preprocess", Call.within(1)) as span:
        span.failed("NOT_FOUND", "unknown model")
    exported.flush()
    finished: Any = exporter.get_finished_spans()[0]
    assert finished.attributes["rpc.grpc.status"] == "NOT_FOUND"
    assert not finished.status.is_ok
