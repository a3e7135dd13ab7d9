"""Entities of the ledger: jobs, their parts, and claims on parts. Times are seconds since the epoch by its database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class JobState(StrEnum):
    """A job is planned, runs, and ends in one of three ways."""

    PLANNING = "planning"  # its parts are not all known; those that are known are worked on
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PartState(StrEnum):
    """A part waits, is leased to one worker, and ends."""

    WAITING = "waiting"
    LEASED = "leased"
    COMMITTED = "committed"
    FAILED = "failed"


class PartKind(StrEnum):
    """The kind of work. Each job has one part of the first and of the last kind, with the same leases and retries."""

    PLAN = "plan"  # number 0: reads the document and adds the parts with rows
    ROWS = "rows"  # numbers 1 to `Job.parts`
    FINISH = "finish"  # the number behind them, made once all of them are committed: writes the manifest


PLAN_NUMBER = 0


@dataclass(frozen=True)
class NewJob:
    """A job to be submitted. The request id makes submitting idempotent.

    keep_s: seconds until results are deleted, from the end of the job. deadline_s: seconds from now until the job has
    to be done; None for no deadline. background: served only while no other job has a part to claim. model: that of the
    document, by whose measured parts the deadline is judged.
    """

    request_id: str
    document: str
    keep_s: float = 7 * 86_400.0
    deadline_s: float | None = None
    background: bool = False
    model: str = ""


@dataclass(frozen=True)
class Job:
    """A job as the ledger has it. `parts`, `committed`, `rows` and `bad_rows` count its parts with rows.

    `model` and `version` are empty and 0 until the planner has pinned them. `revision` grows with each change.
    """

    id: str
    request_id: str | None
    document: str
    state: JobState
    background: bool
    model: str
    version: int
    parts: int
    committed: int
    rows: int
    bad_rows: int
    seconds: float  # of work, over its committed parts
    created_s: float
    started_s: float | None
    ended_s: float | None
    keep_s: float
    deadline_s: float | None
    expires_s: float | None
    revision: int
    summary: Mapping[str, Any] | None
    error: str

    @property
    def has_ended(self) -> bool:
        return self.ended_s is not None

    @property
    def is_planned(self) -> bool:
        """Whether all parts are known."""
        return self.state is not JobState.PLANNING


@dataclass(frozen=True)
class PartResult:
    """The result of a part: the object with its answers, and its counts. `summary` is merged into that of the job."""

    object: str = ""
    rows: int = 0
    bad_rows: int = 0
    seconds: float = 0.0
    summary: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Part:
    """A part as the ledger has it. `sequence` counts the commits of its job, from 1; None before the commit."""

    job_id: str
    number: int
    kind: PartKind
    spec: Mapping[str, Any]
    state: PartState
    fence: int
    attempts: int
    worker: str
    sequence: int | None
    result: PartResult | None
    error: str


@dataclass(frozen=True)
class Claim:
    """A part that is leased to one worker. `fence` is its fencing token: it grows with each claim of the part."""

    job: Job
    number: int
    kind: PartKind
    fence: int
    attempt: int  # from 1
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LedgerLimits:
    """Limits of a ledger. A part is tried `attempts` times, with an exponential backoff in between.

    parts_at_once: parts that all workers together do at once, by which deadlines are judged.
    """

    jobs: int = 100_000
    parts_per_job: int = 5_000_000
    document_bytes: int = 1 << 20
    attempts: int = 5
    backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    parts_at_once: int = 1
