"""Interface of tracing: a span for each request of a stage. These classes do nothing; see `exported_spans`."""

from __future__ import annotations

import contextlib

from triptych.protocol.call import Call


class Span:
    """Span of one request."""

    def describe(self, model: str, version: str, rows: int) -> None:
        """Set the model and version that answered, and the number of rows."""

    def failed(self, code: str, text: str) -> None:
        """Set the gRPC code and the sentence for the caller."""


class Tracing:
    """Source of spans. This one makes none, and the caller's trace context passes unchanged.

    `is_on`: whether spans are made, so that a request without one need not ask for it.
    """

    is_on = False

    def span(self, name: str, call: Call) -> contextlib.AbstractContextManager[Span]:
        """A span below the caller's. The call's metadata then carries it to the next stage."""
        return _OFF

    def close(self) -> None:
        """Export the remaining spans."""


_OFF = contextlib.nullcontext(Span())
