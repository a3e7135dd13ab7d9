"""Calls that have arrived and do not start yet, so that no caller keeps the loop from the others.

A read may complete hundreds of calls, each of which can take milliseconds at once: its answer may be large, whether
anybody reads it or not.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

TURN_S = 0.02  # for calls of one read, and for calls of the backlog in one turn of the loop


class Startable(Protocol):
    """A call whose request is complete. `start` does nothing for one that is over."""

    def start(self) -> None: ...


class Caller(Protocol):
    """A connection that is not read while it has calls in the backlog."""

    def stop_reading(self) -> None: ...

    def go_on_reading(self) -> None: ...


class Backlog:
    """Calls by the connection that they came on. In each turn of the loop the connections take turns."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: dict[Caller, deque[Startable]] = {}  # whose turn it is comes first
        self._is_scheduled = False

    def __contains__(self, caller: Caller) -> bool:
        return caller in self._calls

    def start(self, caller: Caller, calls: Sequence[Startable]) -> None:
        """Start the calls of one read in their order, as many as there is time for; the others in later turns."""
        if caller in self._calls:
            self._calls[caller].extend(calls)
            return
        if len(calls) == 1:
            calls[0].start()
            return
        end_s = time.monotonic() + TURN_S
        for number, call in enumerate(calls, 1):
            call.start()
            if number < len(calls) and time.monotonic() > end_s:
                self._calls[caller] = deque(calls[number:])
                caller.stop_reading()
                self._schedule()
                return

    def forget(self, caller: Caller) -> None:
        """Drop the calls of a connection that is closed."""
        self._calls.pop(caller, None)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_scheduled = False
        end_s = time.monotonic() + TURN_S
        while self._calls and time.monotonic() < end_s:
            caller, calls = next(iter(self._calls.items()))
            del self._calls[caller]  # its next turn is behind those of the others
            calls.popleft().start()
            if calls:
                self._calls[caller] = calls
            else:
                caller.go_on_reading()
        if self._calls:
            self._schedule()
