"""Waiting for a change of a job: at once for changes of this process, by polling for those of others."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar

POLL_S = 0.2  # a change by another process is seen that late at most

T = TypeVar("T")


class Changes:
    """Events of jobs in this process."""

    def __init__(self, poll_s: float = POLL_S) -> None:
        self._poll_s = poll_s
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def notify(self, job_id: str) -> None:
        for event in self._waiting.get(job_id, ()):
            event.set()

    async def wait(
        self, job_id: str, read: Callable[[], Awaitable[T]], is_changed: Callable[[T], bool], timeout_s: float
    ) -> T:
        """The result of `read`, once `is_changed` or after `timeout_s`."""
        until_s = time.monotonic() + timeout_s
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            while True:
                event.clear()
                found = await read()
                left_s = until_s - time.monotonic()
                if is_changed(found) or left_s <= 0:
                    return found
                try:
                    async with asyncio.timeout(min(left_s, self._poll_s)):
                        await event.wait()
                except TimeoutError:
                    pass
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]
