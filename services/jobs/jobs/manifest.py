"""The manifest of a job that has succeeded: JSON lines, the job first, then its parts in the order of their numbers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from jobs.ledger import Job, Ledger, PartKind
from jobs.summary import values_of


async def manifest_lines(ledger: Ledger, job: Job) -> AsyncIterator[bytes]:
    """The lines, a page of parts at a time. The same each time, for all parts with rows are committed."""
    job = await ledger.get(job.id)
    head = {
        "job": job.id,
        "request_id": job.request_id,
        "model": job.model,
        "version": job.version,
        "parts": job.parts,
        "rows": job.rows,
        "bad_rows": job.bad_rows,
        "summary": values_of(job.summary),
    }
    yield _line(head)
    after = 0
    while parts := await ledger.parts(job.id, after):
        after = parts[-1].number
        lines = [
            _line({"part": part.number, "object": part.result.object, "rows": part.result.rows})
            for part in parts
            if part.kind is PartKind.ROWS and part.result is not None
        ]
        if lines:
            yield b"".join(lines)


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"
