"""The ledger of jobs: what was accepted, what is done, and who works on what.

A job is a document and its parts. A part is leased to a worker by `claim`, and `commit` ends it with one conditional
update by its fencing token, so that a part is committed once, by a worker whose lease is in force.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from jobs.ledger.changes import Changes
from jobs.ledger.completion import completed
from jobs.ledger.database import Database, database
from jobs.ledger.entities import (
    PLAN_NUMBER,
    Claim,
    Job,
    JobState,
    LedgerLimits,
    NewJob,
    Part,
    PartKind,
    PartResult,
    PartState,
)
from jobs.ledger.forecast import check_reachable, forecast
from jobs.ledger.rows import JOB_COLUMNS, LISTED_COLUMNS, job_of, part_of
from jobs.ledger.tables import jobs, live_jobs, parts
from jobs.ledger.transaction import Merge, Refused, Transaction
from triptych.errors import InvalidRequest, Overloaded, UnknownTarget, clipped

MAX_REQUEST_ID = 255  # characters
MAX_PAGE = 1000
MAX_S = 100 * 365 * 86_400.0
PURGE_PARTS = 10_000  # rows that one transaction removes


class Ledger:
    """Jobs and parts in a database. Every method is one transaction, durable once it has returned.

    `merge` makes a job's summary from what it was and from that of a part. Every method raises `Unavailable` if the
    database does not answer; the same call may be made again then, `commit` and `submit` too.
    """

    def __init__(self, place: Database, limits: LedgerLimits | None = None, merge: Merge | None = None) -> None:
        self._database, self.limits, self._merge = place, limits or LedgerLimits(), merge
        self._changes = Changes(self._revisions)
        self._running: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(
        cls,
        url: str,
        limits: LedgerLimits | None = None,
        *,
        merge: Merge | None = None,
        clock: ColumnElement[float] | None = None,
    ) -> Ledger:
        """Open `sqlite:///FILE` or `postgresql://...`, and create what is missing. Raises `ValueError`.

        `clock` is the SQL of the time, for tests.
        """
        place = database(url, clock)
        try:
            await place.create()
        except BaseException:
            await place.close()
            raise
        return cls(place, limits, merge)

    async def close(self) -> None:
        """Close the connections, after the last call has ended."""
        await self._changes.close()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._database.close()

    # Jobs.

    @completed
    async def submit(self, new: NewJob) -> Job:
        """Accept a job, or return the one that was submitted with the same request id and the same content.

        Raises `InvalidRequest`, `Overloaded` at the limit of jobs, and `UnreachableDeadline`.
        """
        self._check(new)
        try:
            return await self._submit(new)
        except IntegrityError:  # another process was faster with this request id
            return await self._submit(new)

    @completed
    async def validate(self, new: NewJob) -> Job | None:
        """Refuse what `submit` would refuse, and accept nothing. The job, if it was submitted before."""
        self._check(new)
        async with self._database.read() as connection:
            return await self._submitted(Transaction(connection, self._database.now), new)

    async def _submitted(self, transaction: Transaction, new: NewJob) -> Job | None:
        """The job of the same request id and content; None if it may be accepted. Raises as `submit` does."""
        asked = select(*JOB_COLUMNS, jobs.c.digest).where(jobs.c.request_id == new.request_id)
        if (known := await transaction.first(asked)) is not None:
            if known.digest != _digest(new):
                text = f"request id '{clipped(new.request_id)}' is that of job {known.id} with another content"
                raise InvalidRequest(f"{text}; want a new request id for a new job")
            return job_of(known)
        count = (await transaction.connection.execute(select(func.count()).select_from(jobs))).scalar_one()
        if count >= self.limits.jobs:
            raise Overloaded(f"{count} jobs are kept, the limit; delete some, or wait until some expire")
        if new.deadline_s is not None:  # its parts are not known, and they are at least one
            most = self.limits.parts_at_once
            found = await forecast(transaction.connection, new.model, 1, most, background=new.background)
            check_reachable(found, new.deadline_s, new.model, most)
        return None

    async def _submit(self, new: NewJob) -> Job:
        now = self._database.now
        async with self._writing() as transaction:
            if (known := await self._submitted(transaction, new)) is not None:
                return known
            values = {
                "id": uuid.uuid4().hex,
                "request_id": new.request_id,
                "digest": _digest(new),
                "document": new.document,
                "state": JobState.PLANNING,
                "background": new.background,
                "created_s": now,
                "served_s": now,
                "keep_s": new.keep_s,
                "deadline_s": None if new.deadline_s is None else now + new.deadline_s,
            }
            row = (await transaction.connection.execute(insert(jobs).values(values).returning(*JOB_COLUMNS))).one()
            await transaction.add(row.id, PLAN_NUMBER, PartKind.PLAN, [{}])
        return job_of(row)

    def _check(self, new: NewJob) -> None:
        size, most = len(new.document.encode()), self.limits.document_bytes
        if size > most:
            raise InvalidRequest(f"want a document of at most {most} bytes, got {size}")
        if not 0 < len(new.request_id) <= MAX_REQUEST_ID:
            want = f"want a request id of 1 to {MAX_REQUEST_ID} characters, the same for each try of one submission"
            raise InvalidRequest(f"{want}, got {len(new.request_id)} characters")
        if "\0" in new.request_id or "\0" in new.document:
            raise InvalidRequest("want a request id and a document without the character NUL")
        deadline_s = 1.0 if new.deadline_s is None else new.deadline_s
        if not (0 <= new.keep_s <= MAX_S and 0 < deadline_s <= MAX_S):  # NaN is none of them
            raise InvalidRequest(
                "want a time to keep results of 0 s or more, a deadline in the future, and at most 100 years"
            )

    @completed
    async def get(self, job_id: str) -> Job:
        """The job. Raises `UnknownTarget`."""
        async with self._database.read() as connection:
            job = await Transaction(connection, self._database.now).job(jobs.c.id == job_id, jobs.c.deleted.is_(False))
        if job is None:
            raise UnknownTarget(f"unknown job '{clipped(job_id)}': no such job, or its results have expired")
        return job

    @completed
    async def list_jobs(
        self, page_size: int = 100, page_token: str = "", states: Sequence[JobState] = ()
    ) -> tuple[list[Job], str]:
        """Jobs without their documents, the newest first, and the token of the next page: '' after the last.

        Raises `InvalidRequest`.
        """
        if page_token and not (page_token.isascii() and page_token.isdecimal() and len(page_token) < 19):
            raise InvalidRequest(f"want a page token as the page before returned it, got '{clipped(page_token)}'")
        size = min(max(page_size, 1), MAX_PAGE)
        asked = select(jobs.c.position, *LISTED_COLUMNS).where(jobs.c.deleted.is_(False))
        if page_token:
            asked = asked.where(jobs.c.position < int(page_token))
        if states:
            asked = asked.where(jobs.c.state.in_(states))
        async with self._database.read() as connection:
            rows = (await connection.execute(asked.order_by(jobs.c.position.desc()).limit(size + 1))).all()
        return [job_of(row) for row in rows[:size]], str(rows[size - 1].position) if len(rows) > size else ""

    async def wait(self, job_id: str, revision: int, timeout_s: float) -> Job:
        """The job once its revision differs from `revision`, or as it is after `timeout_s`. Raises `UnknownTarget`."""
        job = await self.get(job_id)
        if job.revision != revision or timeout_s <= 0:
            return job
        await self._changes.wait(job_id, revision, timeout_s)
        return await self.get(job_id)

    @completed
    async def _revisions(self, job_ids: Collection[str]) -> dict[str, int]:
        asked = select(jobs.c.id, jobs.c.revision).where(jobs.c.id.in_(job_ids), jobs.c.deleted.is_(False))
        async with self._database.read() as connection:
            return {row.id: row.revision for row in await connection.execute(asked)}

    @completed
    async def cancel(self, job_id: str) -> Job:
        """Cancel a job that has not ended. The leases on its parts are void. Raises `UnknownTarget`."""
        async with self._writing(job_id) as transaction:
            await transaction.end(jobs.c.id == job_id, JobState.CANCELLED)
        return await self.get(job_id)

    @completed
    async def delete(self, job_id: str) -> None:
        """Hide a job that has ended, and let it expire now. Raises `UnknownTarget` and `InvalidRequest`."""
        job = await self.get(job_id)
        if not job.has_ended:
            raise InvalidRequest(f"job {job_id} is {job.state}; cancel it before it is deleted")
        values = {"deleted": True, "request_id": None, "expires_s": self._database.now}
        async with self._writing(job_id) as transaction:
            await transaction.changed(update(jobs).where(jobs.c.id == job_id).values(values))

    @completed
    async def expired(self, limit: int = 100) -> list[str]:
        """Ids of jobs whose results are to be deleted. Jobs that missed their deadline fail first.

        The caller removes their objects and then calls `purge`.
        """
        async with self._writing() as transaction:
            late = jobs.c.deadline_s < self._database.now
            await transaction.end(late, JobState.FAILED, "the deadline of the job has passed")
            asked = select(jobs.c.id).where(jobs.c.expires_s <= self._database.now).order_by(jobs.c.expires_s)
            return [row.id for row in await transaction.connection.execute(asked.limit(limit))]

    @completed
    async def purge(self, job_id: str) -> None:
        """Remove a job that has expired and its parts, in pieces."""
        this = and_(jobs.c.id == job_id, jobs.c.expires_s <= self._database.now)
        of_job, below, more = parts.c.job_id == job_id, 0, True
        while more:
            below += PURGE_PARTS
            async with self._writing(job_id) as transaction:
                if not await transaction.changed(update(jobs).where(this).values(deleted=True, request_id=None)):
                    return
                await transaction.changed(delete(parts).where(of_job, parts.c.number < below))
                more = await transaction.first(select(parts.c.number).where(of_job).limit(1)) is not None
                if not more:
                    await transaction.changed(delete(jobs).where(this))

    @completed
    async def unknown(self, job_ids: Sequence[str]) -> set[str]:
        """The ids that no job has, so that what is stored under them is of no use."""
        async with self._database.read() as connection:
            known = {row.id for row in await connection.execute(select(jobs.c.id).where(jobs.c.id.in_(job_ids)))}
        return set(job_ids) - known

    # Planning: under the claim of the part of kind `plan`.

    @completed
    async def pin(self, claim: Claim, model: str, version: int) -> Job | None:
        """Fix model and version of a job, once: a later planner gets the first one's. None if the lease is gone."""
        live = and_(jobs.c.id == claim.job.id, live_jobs)
        values = {"model": model, "version": version, "revision": jobs.c.revision + 1}
        async with self._writing(claim.job.id) as transaction:
            if await transaction.hold(claim) is None:
                return None
            await transaction.changed(update(jobs).where(live, jobs.c.model == "").values(values))
            return await transaction.job(live)

    @completed
    async def add_parts(self, claim: Claim, specs: Sequence[Mapping[str, Any]], first: int) -> bool:
        """Add parts with the numbers `first`, `first` + 1, ... False if the lease is gone, or the job has ended.

        A plan is the same each time. So a planner that repeats what another began skips the first `claim.job.parts`
        specs. Raises `InvalidRequest` for a gap, and beyond the limit of parts.
        """
        most, job_id = self.limits.parts_per_job, claim.job.id
        if first + len(specs) - 1 > most:
            raise InvalidRequest(f"want at most {most} parts of a job, got more; make the parts larger")
        values = {"parts": jobs.c.parts + len(specs), "revision": jobs.c.revision + 1}
        async with self._writing(job_id) as transaction:
            if await transaction.hold(claim) is None:
                return False
            live = and_(jobs.c.id == job_id, live_jobs)
            if not await transaction.changed(update(jobs).where(live, jobs.c.parts == first - 1).values(values)):
                job = await transaction.job(live)
                if job is None:
                    return False
                raise InvalidRequest(f"job {job_id}: want part {job.parts + 1} next, got part {first}")
            await transaction.add(job_id, first, PartKind.ROWS, specs)
        return True

    @completed
    async def check_deadline(self, job_id: str) -> None:
        """Raises `UnreachableDeadline` if the parts that are known cannot be done by the deadline of their job."""
        most = self.limits.parts_at_once
        async with self._database.read() as connection:
            transaction = Transaction(connection, self._database.now)
            job = await transaction.job(jobs.c.id == job_id, live_jobs)
            if job is None or job.deadline_s is None or job.parts == job.committed:
                return
            now_s = float((await connection.execute(select(self._database.now))).scalar_one())
            left = job.parts - job.committed
            found = await forecast(connection, job.model, left, most, background=job.background, job_id=job_id)
        check_reachable(found, job.deadline_s - now_s, job.model, most)

    # Parts.

    @completed
    async def claim(self, worker: str, lease_s: float, job_id: str | None = None) -> Claim | None:
        """Lease the next part to a worker, of any job or of one. None if there is nothing to do now.

        Background jobs come behind the others, and among equals the job served longest ago comes first.
        """
        try:
            async with self._writing() as transaction:
                return await self._claim(transaction, worker, lease_s, job_id)
        except Refused:  # the job was cancelled in this moment
            return None

    async def _claim(self, transaction: Transaction, worker: str, lease_s: float, job_id: str | None) -> Claim | None:
        passed: list[str] = []
        while (found := await transaction.next_job(job_id, passed)) is not None:
            passed.append(found)
            part = await transaction.claimable_part(found)
            if part is None:  # other workers have taken it meanwhile
                continue
            if part.attempts < self.limits.attempts:
                return await transaction.lease(part, worker, lease_s)
            await transaction.give_up(part, part.error or "its worker did not renew the lease")
        return None

    @completed
    async def renew(self, claim: Claim, lease_s: float) -> bool:
        """Extend a lease that is in force. False if it is not, or if the job has ended: stop the work then."""
        async with self._writing() as transaction:
            extended = update(parts).where(transaction.in_force(claim))
            return bool(await transaction.changed(extended.values(claimable_s=self._database.now + lease_s)))

    @completed
    async def commit(self, claim: Claim, result: PartResult) -> bool:
        """End a part with its result. True also if this claim did it before. False if the lease is not in force.

        The commit of the plan says that all parts are known. The part `finish` appears with the last commit, and its
        own commit ends the job.
        """
        try:
            async with self._writing(claim.job.id) as transaction:
                return await transaction.commit(claim, result, self._merge)
        except Refused:
            return False

    @completed
    async def fail(self, claim: Claim, error: str, *, final: bool = False) -> bool:
        """Record a failure. The part is tried again after a backoff, or the job fails: if final, or after the last try.

        False if the lease is not in force.
        """
        async with self._writing(claim.job.id) as transaction:
            part = await transaction.hold(claim)
            if part is None:
                return False
            if final or part.attempts >= self.limits.attempts:
                await transaction.give_up(part, error)
            else:
                backoff_s = self.limits.backoff_s * 2 ** (part.attempts - 1)
                await transaction.retry(claim, error, min(backoff_s, self.limits.max_backoff_s))
        return True

    async def release(self, claim: Claim) -> bool:
        """Return a part that was not finished: it is free at once, and the try does not count.

        False if the lease is not in force.
        """
        return await self.postpone(claim, "", 0.0)

    @completed
    async def postpone(self, claim: Claim, error: str, after_s: float) -> bool:
        """Return a part whose work cannot be done now, for a reason outside of it. The try does not count.

        False if the lease is not in force.
        """
        values = {
            "state": PartState.WAITING,
            "claimable_s": self._database.now + after_s,
            "attempts": parts.c.attempts - 1,
            "error": error,
        }
        async with self._writing() as transaction:
            return bool(await transaction.changed(update(parts).where(transaction.in_force(claim)).values(values)))

    @completed
    async def parts(self, job_id: str, after: int = -1, limit: int = MAX_PAGE) -> list[Part]:
        """Parts in the order of their numbers, those behind number `after`."""
        return await self._parts(job_id, parts.c.number > after, parts.c.number, limit)

    @completed
    async def committed(self, job_id: str, after: int = 0, limit: int = MAX_PAGE) -> list[Part]:
        """Committed parts with rows in the order of their commits, those behind the commit `after`."""
        return await self._parts(job_id, parts.c.sequence > after, parts.c.sequence, limit)

    @completed
    async def open_parts(self) -> int:
        """Number of parts that are known and not committed, of all jobs that have not ended.

        It counts the plan and the manifest of a job too: an autoscaler that has removed all workers needs one for them.
        """
        plan_or_manifest = or_(jobs.c.state == JobState.PLANNING, jobs.c.parts == jobs.c.committed)
        of_job = jobs.c.parts - jobs.c.committed + case((plan_or_manifest, 1), else_=0)
        async with self._database.read() as connection:
            asked = select(func.coalesce(func.sum(of_job), 0)).where(live_jobs)
            return int((await connection.execute(asked)).scalar_one())

    async def _parts(
        self, job_id: str, where: ColumnElement[bool], order: ColumnElement[Any], limit: int
    ) -> list[Part]:
        async with self._database.read() as connection:
            asked = select(parts).where(parts.c.job_id == job_id, where).order_by(order).limit(min(limit, MAX_PAGE))
            return [part_of(row) for row in await connection.execute(asked)]

    @asynccontextmanager
    async def _writing(self, job_id: str = "") -> AsyncIterator[Transaction]:
        """A transaction that may write. Those who wait for the job are notified once it is durable."""
        async with self._database.write() as connection:
            yield Transaction(connection, self._database.now)
        self._changes.notify(job_id)


def _digest(new: NewJob) -> str:
    return hashlib.sha256(json.dumps([new.document, new.keep_s, new.deadline_s, new.background]).encode()).hexdigest()
