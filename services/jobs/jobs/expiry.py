"""Expiry: deletes the objects of jobs whose time to keep is over, and those that belong to no job."""

from __future__ import annotations

from jobs.ledger import Ledger
from jobs.objects import JOBS, Objects

IDS_AT_ONCE = 500


async def expire(ledger: Ledger, objects: Objects) -> int:
    """Delete what has expired. Return the number of jobs. It may be interrupted at any time, and run in many processes.

    A job is in the ledger before its first object, and never comes back after it was purged. So objects of a job that
    the ledger does not know are what an expired worker wrote too late.
    """
    stored = await objects.folders(JOBS)  # before the ledger is asked, for that order
    count = 0
    while expired := await ledger.expired():
        for job_id in expired:
            await objects.delete_below(f"{JOBS}/{job_id}")
            await ledger.purge(job_id)
        count += len(expired)
    for first in range(0, len(stored), IDS_AT_ONCE):
        for job_id in await ledger.unknown(stored[first : first + IDS_AT_ONCE]):
            await objects.delete_below(f"{JOBS}/{job_id}")
    return count
