"""The caller's trace context goes on to other servers, unless they would refuse it."""

from __future__ import annotations

import pytest

from triptych.protocol.call import Call

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("state", ["a=1", "a=1,b=2", "x" * 512])
def test_a_trace_context_goes_on(state: str) -> None:
    call = Call.within(1, {"traceparent": PARENT, "tracestate": state, "other": "x"})
    assert call.trace_metadata() == (("traceparent", PARENT), ("tracestate", state))


@pytest.mark.parametrize("state", ["", "x" * 513, "a=\xe9", "a=1\n"])
def test_a_malformed_state_is_left_out(state: str) -> None:
    call = Call.within(1, {"traceparent": PARENT, "tracestate": state})
    assert call.trace_metadata() == (("traceparent", PARENT),)


@pytest.mark.parametrize("parent", ["", "00", "00-" + "f" * 30_000, PARENT.upper(), PARENT + "\n", PARENT + "-x"])
def test_a_malformed_parent_is_left_out_with_its_state(parent: str) -> None:
    """30,000 characters made Triton refuse the whole batch (2026-11-29)."""
    assert Call.within(1, {"traceparent": parent, "tracestate": "a=1"}).trace_metadata() == ()
