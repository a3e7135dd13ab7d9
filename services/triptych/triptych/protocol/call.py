"""Context of a call for its servicer: deadline, metadata, caller. The same for every server."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from triptych.errors import DeadlineExceeded, Overloaded
from triptych.protocol.peer import peer_host

# W3C Trace Context. A batch carries the trace of one request, so what another server would refuse is not passed on.
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
TRACESTATE = re.compile(r"[ -~]{1,512}")


@dataclass(slots=True)
class Call:
    """One call: its deadline, and the caller's metadata.

    `deadline` is in seconds by `time.monotonic`. `on_settled` holds the callback that counts the call. The server calls
    it through `settle` once the answer is written or lost. With None a call is counted when its answer is made.
    `failed_request` is the id of the request in the call, once it has failed.
    """

    deadline: float
    metadata: Mapping[str, str] = field(default_factory=dict)
    ask_peer: Callable[[], str] | None = None  # in gRPC's form; called only where it matters, for it costs
    ask_identity: Callable[[], Collection[str]] | None = None  # names in the verified certificate
    on_settled: list[Callable[[str], None]] | None = None
    failed_request: str = ""

    @classmethod
    def within(cls, seconds: float, metadata: Mapping[str, str] | None = None) -> Call:
        """A call whose deadline is `seconds` from now."""
        return cls(time.monotonic() + seconds, {} if metadata is None else metadata)

    @property
    def peer(self) -> str:
        """Host of the caller; empty if the server does not know it."""
        return peer_host(self.ask_peer()) if self.ask_peer is not None else ""

    @property
    def identity(self) -> Collection[str]:
        """Names in the caller's certificate; empty without mutual TLS."""
        return self.ask_identity() if self.ask_identity is not None else ()

    def settle(self, code: str) -> None:
        """Count the call with its gRPC code, once."""
        if self.on_settled:
            self.on_settled.pop()(code)

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline

    def remaining_s(self, limit_s: float = float("inf")) -> float:
        """Seconds left, at most `limit_s`; raises `DeadlineExceeded` when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("the deadline of the call has passed")
        return min(left, limit_s)

    def shorten(self, limit_s: float) -> None:
        """Move the deadline to at most `limit_s` from now."""
        self.deadline = min(self.deadline, time.monotonic() + limit_s)

    def check_wait_budget(self, wait_s: float, share: float, queue: str) -> None:
        """Raises `Overloaded` if the expected wait is more than `share` of the time left."""
        allowed_s = self.remaining_s() * share
        if wait_s > allowed_s:
            raise Overloaded(
                f"the wait for {queue} is {wait_s:.3f} s, and this call can wait {allowed_s:.3f} s; "
                "send less, wait longer or add replicas",
                retry_after_s=wait_s - allowed_s,
            )

    def trace_metadata(self) -> tuple[tuple[str, str], ...]:
        """Trace context of the caller, for the metadata of outbound calls; empty if it is malformed."""
        parent = self.metadata.get("traceparent")
        if parent is None or not TRACEPARENT.fullmatch(parent):
            return ()
        state = self.metadata.get("tracestate", "")
        if not TRACESTATE.fullmatch(state):
            return (("traceparent", parent),)
        return (("traceparent", parent), ("tracestate", state))
