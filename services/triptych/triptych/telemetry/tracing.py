"""Tracing of a stage: one span for each request, off unless an OTLP endpoint is set.

When it is off, the caller's `traceparent` still passes through all stages unchanged.
"""

from __future__ import annotations

from triptych.telemetry.spans import Span, Tracing

__all__ = ["Span", "Tracing", "tracing"]


def tracing(stage: str, endpoint: str) -> Tracing:
    """Tracing of a stage to the collector at `endpoint` (OTLP/gRPC, `host:port`); off if that is empty."""
    if not endpoint:
        return Tracing()
    from triptych.telemetry.exported_spans import ExportedSpans  # costs a fifth of the start, so only where it is on

    return ExportedSpans(stage, endpoint)
