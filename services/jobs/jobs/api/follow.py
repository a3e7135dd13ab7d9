"""Follow: the answers of a job part by part, those that are there and those that come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial

from jobs.ledger import Job, Ledger, Part, PartKind, PartState
from jobs.objects import Objects
from jobs.summary import values_of
from triptych.errors import Draining, UnknownTarget
from triptych.protocol import jobs_pb2 as jp
from triptych.server import STOPPING

CONTENT_BYTES = 1 << 20  # of one message
PAGE_PARTS = 100
WAIT_S = 30.0  # for a change, before the ledger is read again


class Follower:
    """Follows jobs until they end, or until the process stops."""

    def __init__(self, ledger: Ledger, objects: Objects) -> None:
        self._ledger, self._objects = ledger, objects
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End every stream, and each later one, at its next message."""
        self._closing.set()

    async def follow(self, job_id: str, position: int, *, in_order: bool) -> AsyncIterator[jp.FollowReply]:
        """Messages of the parts behind a position, and one with the state of the job. Raises `UnknownTarget`."""
        while True:
            job = await self._ledger.get(job_id)
            found = await self._behind(job, position, in_order=in_order)
            if found:
                job = await self._ledger.get(job_id)  # whose summary has these parts
            for part in found:
                position = part.number if in_order else part.sequence or 0
                async for message in self._messages(part, position, job):
                    self._check_open()
                    yield message
            if found:
                continue
            if job.has_ended:
                yield jp.FollowReply(position=position, state=job.state, error=job.error)
                return
            await self._changed(job)
            self._check_open()

    async def _behind(self, job: Job, position: int, *, in_order: bool) -> list[Part]:
        """Committed parts behind a position. In order only those that no other part has to come before."""
        if not in_order:
            return await self._ledger.committed(job.id, position, PAGE_PARTS)
        found: list[Part] = []
        for part in await self._ledger.parts(job.id, position, PAGE_PARTS):
            if part.kind is not PartKind.ROWS or part.state is not PartState.COMMITTED:
                break
            found.append(part)
        return found

    async def _messages(self, part: Part, position: int, job: Job) -> AsyncIterator[jp.FollowReply]:
        assert part.result is not None
        result, last = part.result, b""
        reply = partial(jp.FollowReply, part=part.number, rows=result.rows, bad_rows=result.bad_rows)
        try:
            async for chunk in self._objects.chunks(result.object, chunk_bytes=CONTENT_BYTES):
                if last:
                    yield reply(content=last, more=True)
                last = chunk
        except FileNotFoundError:
            raise UnknownTarget(f"job {part.job_id}: its results were deleted while they were read") from None
        summary = json.dumps(values_of(job.summary)) if job.summary is not None else ""
        yield reply(content=last, position=position, summary_json=summary)

    async def _changed(self, job: Job) -> None:
        """Wait until the job has changed, or the process stops."""
        waiting = asyncio.ensure_future(self._ledger.wait(job.id, job.revision, WAIT_S))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({waiting, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waiting, closing):
                task.cancel()
            await asyncio.gather(waiting, closing, return_exceptions=True)

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise Draining(STOPPING)
