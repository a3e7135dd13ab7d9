"""Statements on jobs and parts, inside one transaction.

A transaction locks a part before its job, so that no two of them wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from jobs.ledger.entities import Claim, Job, JobState, PartKind, PartResult, PartState
from jobs.ledger.rows import JOB_COLUMNS, job_of
from jobs.ledger.tables import jobs, live_jobs, open_parts, parts

Summary = Mapping[str, Any]
Merge = Callable[[Summary | None, Summary], Summary]


class Refused(Exception):
    """Rolls a transaction back: the job has ended, or is not as it was expected."""


class Transaction:
    """Statements of one transaction; `now` is the SQL of the time."""

    def __init__(self, connection: AsyncConnection, now: ColumnElement[float]) -> None:
        self.connection, self.now = connection, now

    async def first(self, statement: Any) -> Row[Any] | None:
        """The first row of a query, or of a statement with RETURNING."""
        return (await self.connection.execute(statement)).first()

    async def changed(self, statement: Any) -> int:
        """Number of rows that an update or a delete has changed."""
        return int((await self.connection.execute(statement)).rowcount)

    # Jobs.

    async def job(self, *where: ColumnElement[bool]) -> Job | None:
        row = await self.first(select(*JOB_COLUMNS).where(*where))
        return None if row is None else job_of(row)

    async def end(self, which: ColumnElement[bool], state: JobState, error: str = "") -> int:
        """End live jobs. Return their number."""
        values = {
            "state": state,
            "ended_s": self.now,
            "expires_s": self.now + jobs.c.keep_s,
            "revision": jobs.c.revision + 1,
            "error": error,
        }
        return await self.changed(update(jobs).where(which, live_jobs).values(values))

    async def next_job(self, job_id: str | None, passed: Sequence[str]) -> str | None:
        """The id of the live job that is next, among those with a part to claim."""
        where = [live_jobs, select(parts.c.number).where(parts.c.job_id == jobs.c.id, self._claimable).exists()]
        if job_id is not None:
            where.append(jobs.c.id == job_id)
        if passed:
            where.append(jobs.c.id.not_in(passed))
        asked = select(jobs.c.id).where(*where).order_by(jobs.c.background, jobs.c.served_s, jobs.c.position)
        row = await self.first(asked.limit(1))
        return None if row is None else str(row.id)

    # Parts.

    @property
    def _claimable(self) -> ColumnElement[bool]:
        return and_(open_parts, parts.c.claimable_s <= self.now)

    async def add(self, job_id: str, first: int, kind: PartKind, specs: Sequence[Mapping[str, Any]]) -> None:
        """Insert parts, which can be claimed at once."""
        now_s = (await self.connection.execute(select(self.now))).scalar_one()
        common = {"job_id": job_id, "kind": kind, "state": PartState.WAITING, "claimable_s": now_s}
        rows = [{**common, "number": number, "spec": dict(spec)} for number, spec in enumerate(specs, first)]
        if rows:
            await self.connection.execute(insert(parts), rows)

    async def claimable_part(self, job_id: str) -> Row[Any] | None:
        """The first part that can be claimed and that no other transaction has locked."""
        asked = select(parts).where(parts.c.job_id == job_id, self._claimable).order_by(parts.c.number).limit(1)
        return await self.first(asked.with_for_update(skip_locked=True))

    async def lease(self, part: Row[Any], worker: str, lease_s: float) -> Claim:
        """Lease a part. Raises `Refused` if its job has ended.

        The claim has the job as it is now: the part may be newer than the row by which its job was chosen.
        """
        values = {
            "state": PartState.LEASED,
            "claimable_s": self.now + lease_s,
            "fence": part.fence + 1,
            "attempts": part.attempts + 1,
            "worker": worker,
        }
        await self.changed(update(parts).where(_part(part.job_id, part.number)).values(values))
        served = {"served_s": self.now, "started_s": func.coalesce(jobs.c.started_s, self.now)}
        row = await self.first(
            update(jobs).where(jobs.c.id == part.job_id, live_jobs).values(served).returning(*JOB_COLUMNS)
        )
        if row is None:
            raise Refused
        return Claim(job_of(row), part.number, PartKind(part.kind), part.fence + 1, part.attempts + 1, part.spec)

    def in_force(self, claim: Claim) -> ColumnElement[bool]:
        """The condition that a claim's job is live, and its lease has neither run out nor gone to another worker."""
        leased = and_(parts.c.state == PartState.LEASED, parts.c.fence == claim.fence, parts.c.claimable_s > self.now)
        live = select(jobs.c.id).where(jobs.c.id == claim.job.id, live_jobs).exists()
        return and_(_part(claim.job.id, claim.number), leased, live)

    async def hold(self, claim: Claim) -> Row[Any] | None:
        """The part of a lease that is in force, locked until the transaction ends. None if it is not."""
        return await self.first(select(parts).where(self.in_force(claim)).with_for_update())

    async def retry(self, claim: Claim, error: str, backoff_s: float) -> None:
        values = {"state": PartState.WAITING, "claimable_s": self.now + backoff_s, "error": error}
        await self.changed(update(parts).where(_part(claim.job.id, claim.number)).values(values))

    async def give_up(self, part: Row[Any], error: str) -> None:
        """Fail a part, and its job with it."""
        values = {"state": PartState.FAILED, "ended_s": self.now, "error": error}
        await self.changed(update(parts).where(_part(part.job_id, part.number)).values(values))
        what = f"part {part.number}" if part.kind == PartKind.ROWS else f"the part that is to {part.kind} the job"
        times = f" {part.attempts} times, at last" if part.attempts > 1 else ""
        await self.end(jobs.c.id == part.job_id, JobState.FAILED, f"{what} failed{times}: {error}")

    async def commit(self, claim: Claim, result: PartResult, merge: Merge | None) -> bool:
        """End a part with its result. Raises `Refused` if the job has ended."""
        this = _part(claim.job.id, claim.number)
        values = {
            "state": PartState.COMMITTED,
            "ended_s": self.now,
            "object": result.object,
            "rows": result.rows,
            "bad_rows": result.bad_rows,
            "seconds": result.seconds,
            "summary": None if result.summary is None else dict(result.summary),
            "error": "",
        }
        if not await self.changed(update(parts).where(self.in_force(claim)).values(values)):
            done = and_(this, parts.c.state == PartState.COMMITTED, parts.c.fence == claim.fence)
            return await self.first(select(parts.c.number).where(done)) is not None
        if claim.kind is PartKind.FINISH:
            if not await self.end(jobs.c.id == claim.job.id, JobState.SUCCEEDED):
                raise Refused
            return True
        job = await self._count(claim, result)
        if claim.kind is PartKind.ROWS:
            await self.changed(update(parts).where(this).values(sequence=job.committed))
        if merge is not None and claim.kind is PartKind.ROWS and result.summary is not None:
            summary = dict(merge(job.summary, result.summary))
            await self.changed(update(jobs).where(jobs.c.id == job.id).values(summary=summary))
        if job.is_planned and job.committed == job.parts:
            await self.add(job.id, job.parts + 1, PartKind.FINISH, [{}])
        return True

    async def _count(self, claim: Claim, result: PartResult) -> Job:
        """Count a part in its job, whose row is locked from here on. Raises `Refused` if the job has ended."""
        values: dict[str, Any] = {"revision": jobs.c.revision + 1}
        if claim.kind is PartKind.PLAN:
            values["state"] = JobState.RUNNING
        else:
            counts = {"rows": result.rows, "bad_rows": result.bad_rows, "seconds": result.seconds, "committed": 1}
            values |= {name: jobs.c[name] + count for name, count in counts.items()}
        counted = update(jobs).where(jobs.c.id == claim.job.id, live_jobs).values(values)
        row = await self.first(counted.returning(*JOB_COLUMNS))
        if row is None:
            raise Refused
        return job_of(row)


def _part(job_id: str, number: int) -> ColumnElement[bool]:
    return and_(parts.c.job_id == job_id, parts.c.number == number)
