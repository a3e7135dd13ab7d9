"""Rows of the tables as entities."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from jobs.ledger.entities import Job, JobState, Part, PartKind, PartResult, PartState
from jobs.ledger.tables import jobs

_NOT_IN_JOB = {"position", "digest", "served_s", "deleted"}
JOB_COLUMNS = [column for column in jobs.c if column.name not in _NOT_IN_JOB]

# A page has many jobs, and a document may have a mebibyte.
LISTED_COLUMNS = [column for column in JOB_COLUMNS if column.name != "document"]


def job_of(row: Row[Any]) -> Job:
    """The job of a row with `JOB_COLUMNS`, or with `LISTED_COLUMNS`."""
    names = [column.name for column in JOB_COLUMNS]
    values: dict[str, Any] = {name: getattr(row, name, "") for name in names}
    values["state"] = JobState(values["state"])
    return Job(**values)


def part_of(row: Row[Any]) -> Part:
    """The part of a row with all columns of its table."""
    state = PartState(row.state)
    result = None
    if state is PartState.COMMITTED:
        result = PartResult(row.object, row.rows, row.bad_rows, row.seconds, row.summary)
    return Part(
        row.job_id,
        row.number,
        PartKind(row.kind),
        row.spec,
        state,
        row.fence,
        row.attempts,
        row.worker,
        row.sequence,
        result,
        row.error,
    )
