"""The ledger: jobs and their parts in SQLite or Postgres, with leases and fencing tokens."""

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
from jobs.ledger.ledger import Ledger
from jobs.ledger.transaction import Merge, Summary

__all__ = [
    "PLAN_NUMBER",
    "Claim",
    "Job",
    "JobState",
    "Ledger",
    "LedgerLimits",
    "Merge",
    "NewJob",
    "Part",
    "PartKind",
    "PartResult",
    "PartState",
    "Summary",
]
