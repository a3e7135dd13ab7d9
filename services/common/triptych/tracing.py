"""OpenTelemetry spans, one for each stage that a request passes; off unless an OTLP endpoint is set.

When off, the caller's `traceparent` still goes through all stages unchanged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from triptych.call import Call


class Span:
    """What a stage says about a request; does nothing when tracing is off."""

    def describe(self, model: str, version: str, rows: int) -> None:
        """The model and version that answered, and how many rows."""

    def failed(self, code: str, text: str) -> None:
        """The gRPC code and the sentence that the caller gets."""


class Tracing:
    """Makes the spans of one stage."""

    def __init__(self, stage: str, endpoint: str, exporter: SpanExporter | None = None) -> None:
        self._provider: TracerProvider | None = None
        if endpoint or exporter:
            self._provider = TracerProvider(resource=Resource.create({"service.name": f"triptych-{stage}"}))
            exporter = exporter or OTLPSpanExporter(endpoint=endpoint, insecure=True)
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
            self._tracer = self._provider.get_tracer("triptych")

    def span(self, name: str, call: Call) -> contextlib.AbstractContextManager[Span]:
        """A span under the caller's; the call's metadata then carries this one on to the next stage."""
        return _OFF if self._provider is None else self._span(name, call)

    @contextlib.contextmanager
    def _span(self, name: str, call: Call) -> Iterator[Span]:
        context = _PROPAGATOR.extract(dict(call.metadata))
        with self._tracer.start_as_current_span(name, context, kind=trace.SpanKind.SERVER) as span:
            carrier = dict(call.metadata)
            _PROPAGATOR.inject(carrier)
            call.metadata = carrier
            yield _OpenSpan(span)

    def close(self) -> None:
        """Sends what is left."""
        if self._provider is not None:
            self._provider.shutdown()


class _OpenSpan(Span):
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def describe(self, model: str, version: str, rows: int) -> None:
        self._span.set_attributes({"triptych.model": model, "triptych.version": version, "triptych.rows": rows})

    def failed(self, code: str, text: str) -> None:
        self._span.set_attribute("rpc.grpc.status", code)
        self._span.set_status(trace.StatusCode.ERROR, text)


_OFF = contextlib.nullcontext(Span())
_PROPAGATOR = TraceContextTextMapPropagator()
