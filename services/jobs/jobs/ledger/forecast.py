"""Forecast of the time by which a job could be done, from measured seconds per part and the backlog.

Jobs take turns, so another job of the same class is served at most as many parts before the last part of this one as
this one has. Nothing is forecast for a model without any finished part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from jobs.ledger.tables import jobs, live_jobs
from triptych.errors import UnreachableDeadline

MEASURED_JOBS: Final = 10  # of a model, the latest ones


@dataclass(frozen=True)
class JobForecast:
    """`seconds` from now until a job is done. `part_s` of one part, `backlog` are parts of others before its last."""

    seconds: float
    part_s: float
    backlog: int


async def seconds_per_part(connection: AsyncConnection, model: str) -> float | None:
    """Seconds of work of a part of a model, over its latest jobs. None if no part was measured."""
    measured = and_(jobs.c.model == model, jobs.c.committed > 0)
    latest = (
        select(jobs.c.seconds, jobs.c.committed)
        .where(measured)
        .order_by(jobs.c.position.desc())
        .limit(MEASURED_JOBS)
        .subquery()
    )
    row = (await connection.execute(select(func.sum(latest.c.seconds), func.sum(latest.c.committed)))).one()
    return None if row[1] is None else float(row[0]) / float(row[1])


async def forecast(
    connection: AsyncConnection, model: str, parts: int, at_once: int, *, background: bool, job_id: str = ""
) -> JobForecast | None:
    """The forecast for so many parts of a model, of which all workers do `at_once`. None if nothing was measured."""
    part_s = await seconds_per_part(connection, model)
    if part_s is None:
        return None
    left = jobs.c.parts - jobs.c.committed
    in_turns = case((left < parts, left), else_=parts)
    if background:
        before: ColumnElement[Any] = case((jobs.c.background, in_turns), else_=left)
    else:
        before = case((jobs.c.background, 0), else_=in_turns)
    own_s = case((jobs.c.committed > 0, jobs.c.seconds / jobs.c.committed), else_=part_s)
    asked = select(func.sum(before), func.sum(before * own_s)).where(live_jobs, jobs.c.id != job_id)
    backlog, backlog_s = (await connection.execute(asked)).one()
    work_s = float(backlog_s or 0.0) + parts * part_s
    return JobForecast(max(work_s / at_once, part_s), part_s, int(backlog or 0))


def check_reachable(found: JobForecast | None, left_s: float, model: str, at_once: int) -> None:
    """Raises `UnreachableDeadline` with the time by which the job could be done."""
    if found is None or found.seconds <= left_s:
        return
    backlog = f" behind {found.backlog} parts of other jobs" if found.backlog else ""
    raise UnreachableDeadline(
        f"want a deadline of at least {found.seconds:.1f} s from now, got {max(left_s, 0.0):.1f} s: a part of model "
        f"'{model}' takes {found.part_s:.1f} s, {at_once} are worked on at once{backlog}",
        found.seconds,
    )
