"""State that all connections of a server share: its methods, settings and bytes in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

from triptych.errors import Overloaded
from triptych.http2.framing import Headers
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.settings import StageSettings

# Attacks on all limits together took 507 MiB of the 512 that a stage has, 156 of them unsent answers (2026-11-30).
UNSENT_SHARE = 2

Answer = Callable[[Any], Coroutine[Any, Any, None]]  # of a `ServerStream`


class Evictable(Protocol):
    """A call that can be ended while it waits for its caller. `evict` removes it from `waiting`."""

    def evict(self) -> None: ...


@dataclass(frozen=True)
class Handler:
    """One method. `answer` ends with `finish` or `refuse`; with `client_streaming` it starts before the input ends.

    is_endless: its calls last until either side ends them.
    begins_at_once: its first step runs in the read that completes the call, in no task (`triptych.runtime.first_step`).
    """

    name: str
    answer: Answer
    client_streaming: bool
    is_endless: bool = False
    begins_at_once: bool = False


class ServerContext:
    """State that all connections of a server share: settings, handlers, bytes in flight."""

    def __init__(
        self,
        settings: StageSettings,
        handlers: dict[bytes, Handler],
        refuse: Callable[[Exception, str, str], Headers],
        decompression: Executor,
    ) -> None:
        """`refuse` returns the trailers of a failed call, from its error, the method's name and the request's id."""
        self.settings, self.handlers, self.refuse, self.decompression = settings, handlers, refuse, decompression
        self.loop = asyncio.get_running_loop()
        # Read once: an attribute of the settings takes 800 instructions.
        self.max_message_bytes, self.max_metadata_bytes = settings.max_message_bytes, settings.max_metadata_bytes
        self.inbound_bytes = InFlightBytes(settings.max_bytes_in_flight)
        self.outbound_bytes = InFlightBytes(settings.max_bytes_in_flight // UNSENT_SHARE)
        self.call_bytes = InFlightBytes(settings.max_bytes_in_flight)  # open calls with their metadata
        self.waiting: dict[Evictable, None] = {}  # calls that wait for their callers, least recently active first

    def admit_call(self, size_bytes: int) -> None:
        """Count the memory of a new call. Over the limit, evict calls that wait for their callers, or raise."""
        while True:
            try:
                self.call_bytes.acquire(size_bytes)
                return
            except Overloaded:
                if not self.waiting:
                    raise Overloaded(
                        "too many calls are open here, or their metadata is too large; try again"
                    ) from None
                next(iter(self.waiting)).evict()

    def schedule_check(self) -> None:
        """Schedule the next check of the calls in flight."""
        raise NotImplementedError
