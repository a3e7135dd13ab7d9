"""Spans by OpenTelemetry. Its import takes a fifth of a stage's start, so only `tracing` imports this module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from triptych.protocol.call import Call
from triptych.telemetry.spans import Span, Tracing

_PROPAGATOR = TraceContextTextMapPropagator()
_OPTIONS: Any = (("grpc.enable_http_proxy", 0),)


class ExportedSpans(Tracing):
    """Exports the spans of one stage to a collector (OTLP/gRPC, `host:port`), or to `exporter`."""

    is_on = True

    def __init__(self, stage: str, endpoint: str, exporter: SpanExporter | None = None) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": f"triptych-{stage}"}))
        exporter = exporter or OTLPSpanExporter(endpoint=endpoint, insecure=True, channel_options=_OPTIONS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("triptych")

    @contextlib.contextmanager
    def span(self, name: str, call: Call) -> Iterator[Span]:
        context = _PROPAGATOR.extract(dict(call.metadata))
        with self._tracer.start_as_current_span(name, context, kind=trace.SpanKind.SERVER) as span:
            carrier = dict(call.metadata)
            _PROPAGATOR.inject(carrier)
            call.metadata = carrier
            yield _OpenSpan(span)

    def flush(self) -> None:
        """Export the finished spans now."""
        self._provider.force_flush()

    def close(self) -> None:
        self._provider.shutdown()


class _OpenSpan(Span):
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def describe(self, model: str, version: str, rows: int) -> None:
        self._span.set_attributes({"triptych.model": model, "triptych.version": version, "triptych.rows": rows})

    def failed(self, code: str, text: str) -> None:
        self._span.set_attribute("rpc.grpc.status", code)
        self._span.set_status(trace.StatusCode.ERROR, text)
