"""State that all connections of a server share: its methods, settings and bytes in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from triptych.http2.framing import Headers
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.settings import StageSettings

Answer = Callable[[Any], Coroutine[Any, Any, None]]  # of a `ServerStream`


@dataclass(frozen=True)
class Handler:
    """One method. `answer` ends with `finish` or `refuse`; with `client_streaming` it starts before the input ends."""

    name: str
    answer: Answer
    client_streaming: bool


class ServerContext:
    """State that all connections of a server share: settings, handlers, bytes in flight."""

    def __init__(
        self,
        settings: StageSettings,
        handlers: dict[bytes, Handler],
        refuse: Callable[[Exception, str], Headers],
        decompression: Executor,
    ) -> None:
        """`refuse` returns the trailers of a failed call, from its error and the name of the method."""
        self.settings, self.handlers, self.refuse, self.decompression = settings, handlers, refuse, decompression
        self.loop = asyncio.get_running_loop()
        self.inbound_bytes = InFlightBytes(settings.max_bytes_in_flight)
        self.outbound_bytes = InFlightBytes(settings.max_bytes_in_flight)

    def schedule_check(self) -> None:
        """Schedule the next check of the calls in flight."""
        raise NotImplementedError
