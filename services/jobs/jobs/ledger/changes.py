"""Waiting for a change of a job: at once for changes of this process, by polling for those of others.

One query polls for all that wait, however many they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from triptych.errors import Unavailable

POLL_S = 0.2  # a change by another process is seen that late at most


@dataclass(eq=False)
class _Waiter:
    """A call that waits until the revision of a job is another one."""

    job_id: str
    revision: int
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Changes:
    """Calls that wait in this process. `read` returns the revisions of jobs; a job that is gone is missing."""

    def __init__(self, read: Callable[[Collection[str]], Awaitable[Mapping[str, int]]]) -> None:
        self._read = read
        self._waiters: set[_Waiter] = set()
        self._polling: asyncio.Task[None] | None = None

    def notify(self, job_id: str) -> None:
        """Wake those who wait for a job that this process has changed."""
        for waiter in self._waiters:
            if waiter.job_id == job_id:
                waiter.changed.set()

    async def wait(self, job_id: str, revision: int, timeout_s: float) -> None:
        """Return once the revision of a job is another one, or after `timeout_s`."""
        waiter = _Waiter(job_id, revision)
        self._waiters.add(waiter)
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await waiter.changed.wait()
        finally:
            self._waiters.remove(waiter)

    async def close(self) -> None:
        """End polling. Those who wait go on until their timeout."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    async def _poll(self) -> None:
        while self._waiters:
            asked = {waiter.job_id for waiter in self._waiters}
            with suppress(Unavailable):  # the next poll may find it
                revisions = await self._read(asked)
                for waiter in self._waiters:
                    if waiter.job_id in asked and revisions.get(waiter.job_id) != waiter.revision:
                        waiter.changed.set()
            await asyncio.sleep(POLL_S)
