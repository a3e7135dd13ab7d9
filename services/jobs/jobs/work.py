"""The interface of the work on parts: what a reader and the model do, between the ledger and the object store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jobs.ledger import Job


@dataclass(frozen=True)
class Answers:
    """The answers of a part: `content` is its object, Arrow IPC or Parquet, with one row for each row that is good."""

    content: bytes
    rows: int
    bad_rows: int = 0
    summary: Mapping[str, Any] | None = None


class Work(Protocol):
    """The work on jobs. `check` is called by the API, the other methods by workers.

    Methods raise `InvalidRequest` or `UnknownTarget` for what no other try can mend.
    """

    def check(self, document: str) -> str:
        """Refuse a document before its job is accepted. Returns the name of its model."""
        ...

    def close(self) -> None:
        """Close connections, after the last part has ended."""
        ...

    async def resolve(self, job: Job) -> tuple[str, int]:
        """Model and version for a job that has none yet; they are kept for all of its parts."""
        ...

    def plan(self, job: Job) -> AsyncIterator[Mapping[str, Any]]:
        """The spec of each part: JSON that says what to read. The same sequence each time."""
        ...

    async def answer(self, job: Job, spec: Mapping[str, Any]) -> Answers:
        """The answers of one part by the job's model and version. It may be cancelled at any time."""
        ...
