"""A job as its service reports it, and the answers of one part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import pyarrow as pa
from google.longrunning import operations_pb2 as lro

from triptych.protocol import jobs_pb2 as jp

PREFIX: Final = "jobs/"
STATES: Final = ("planning", "running", "succeeded", "failed", "cancelled")
ENDED: Final = STATES[2:]


@dataclass(frozen=True)
class JobStatus:
    """A job at one moment. Times are seconds since the epoch by the service's ledger; 0 for what has not happened.

    `parts` are those that are known, all of them once the state is not `planning`. `rows` and `bad_rows` count those of
    committed parts. `manifest` names the object with the list of all answers, once the job has succeeded.
    """

    name: str
    state: str
    request_id: str
    model: str
    version: int
    parts: int
    committed: int
    rows: int
    bad_rows: int
    created_s: float
    started_s: float
    ended_s: float
    expires_s: float
    background: bool
    summary: Mapping[str, Any]
    error: str
    manifest: str

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True)
class PartAnswers:
    """The answers of one part, from 1. `position` is where to follow on behind it.

    `content` is a stream of Arrow IPC: the place of each row, kept columns, answers, and records of the version.
    `summary` is the running summary of all parts that were committed by then, by output.
    """

    part: int
    position: int
    rows: int
    bad_rows: int
    content: bytes
    summary: Mapping[str, Any]

    @cached_property
    def table(self) -> Any:
        """The answers as a `pyarrow.Table`; bad rows have null answers and an `error`."""
        return pa.ipc.open_stream(self.content).read_all()


def operation_name(job: str) -> str:
    """The name of a job's operation, by that or by the id alone."""
    return job if job.startswith(PREFIX) else f"{PREFIX}{job}"


def status_of(operation: lro.Operation) -> JobStatus:
    """The status that an operation carries."""
    metadata, result = jp.JobMetadata(), jp.JobResult()
    operation.metadata.Unpack(metadata)
    operation.response.Unpack(result)
    return JobStatus(
        name=operation.name,
        state=metadata.state,
        request_id=metadata.request_id,
        model=metadata.model,
        version=metadata.version,
        parts=metadata.parts,
        committed=metadata.committed,
        rows=metadata.rows,
        bad_rows=metadata.bad_rows,
        created_s=metadata.created_s,
        started_s=metadata.started_s,
        ended_s=metadata.ended_s,
        expires_s=metadata.expires_s,
        background=metadata.background,
        summary=json.loads(metadata.summary_json or "{}"),
        error=operation.error.message,
        manifest=result.manifest,
    )
