"""Spans, one for each stage that a request passes; off unless an OTLP endpoint is set.

When off, the caller's `traceparent` still goes through all stages unchanged.
"""

from __future__ import annotations

import contextlib

from triptych.protocol.call import Call


class Span:
    """What a stage says about a request; does nothing when tracing is off."""

    def describe(self, model: str, version: str, rows: int) -> None:
        """The model and version that answered, and how many rows."""

    def failed(self, code: str, text: str) -> None:
        """The gRPC code and the sentence that the caller gets."""


class Tracing:
    """Makes no spans; `triptych.telemetry.exported_spans` does."""

    def span(self, name: str, call: Call) -> contextlib.AbstractContextManager[Span]:
        """A span under the caller's; the call's metadata then carries this one on to the next stage."""
        return _OFF

    def close(self) -> None:
        """Sends what is left."""


def tracing(stage: str, endpoint: str) -> Tracing:
    """Of a stage, to the collector at `endpoint` (OTLP/gRPC, `host:port`); off when that is empty."""
    if not endpoint:
        return Tracing()
    from triptych.telemetry.exported_spans import ExportedSpans

    return ExportedSpans(stage, endpoint)


_OFF = contextlib.nullcontext(Span())
