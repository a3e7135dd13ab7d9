"""The running summary of a job, on SQLite and on Postgres: correct after every part, by every way to read it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.ledger import Job
from jobs.summary import PartSummary
from jobs.work import Answers
from tests.integration.jobs.doubling import Doubling, document
from tests.integration.jobs.running_jobs import RunningJobs, running_jobs, worker_beside
from triptych.protocol import jobs_pb2 as jp

PARTS, ROWS = 9, 7
OPS = {"tenth": "sum", "middle": "mean", "peak": "max", "parity": "vote"}


class Summarised(Doubling):
    """Each row has the answers of `expected`; every third row is bad."""

    async def answer(self, job: Job, spec: Mapping[str, Any]) -> Answers:
        answers = await super().answer(job, spec)
        rows = list(range(spec["first"], spec["first"] + spec["rows"]))
        good = [None if row % 3 == 0 else row for row in rows]
        tenths = [None if row is None else row / 10 for row in good]
        batch = pa.RecordBatch.from_pydict(
            {
                **dict.fromkeys(("tenth", "middle", "peak"), pa.array(tenths, pa.float64())),
                "parity": [None if row is None else ("even", "odd")[row % 2] for row in good],
                "error": [None if row is not None else "bad" for row in good],
            }
        )
        summary = PartSummary(OPS)
        summary.add(batch)
        return Answers(answers.content, len(rows), 0, summary.state)


def expected(rows: set[int]) -> dict[str, Any]:
    """The summary over these rows."""
    good = sorted(row for row in rows if row % 3)
    tenths, odd = [row / 10 for row in good], sum(row % 2 for row in good)
    exact = sum(map(Fraction, tenths), Fraction(0))
    votes = dict(sorted({"even": len(good) - odd, "odd": odd}.items(), key=lambda each: (-each[1], each[0])))
    return {
        "tenth": {"sum": float(exact), "rows": len(good)},
        "middle": {"mean": float(exact / len(good)), "rows": len(good)},
        "peak": {"max": max(tenths), "rows": len(good)},
        "parity": {"vote": next(iter(votes)), "votes": votes, "rows": len(good)},
    }


async def metadata(system: RunningJobs, name: str) -> dict[str, Any]:
    found = jp.JobMetadata()
    (await system.operation(name)).metadata.Unpack(found)
    return dict(json.loads(found.summary_json))


async def test_the_summary_is_that_of_all_committed_rows_after_every_part(tmp_path: Path, ledger_url: str) -> None:
    async with running_jobs(tmp_path, ledger_url) as system:
        work = Summarised()
        work.permits = asyncio.Semaphore(0)
        name = await system.submit(document(PARTS, rows=ROWS))
        rows, after_parts = set[int](), 0
        async with worker_beside(system, work), worker_beside(system, work):
            work.permits.release()
            async for reply in system.Follow(jp.FollowRequest(name=name), timeout=110):
                if reply.position and reply.content:
                    rows |= {int(row) for row in json.loads(reply.content)["answers"]}
                    assert json.loads(reply.summary_json) == expected(rows)
                    after_parts += 1
                    work.permits.release()
        assert after_parts == PARTS
        final = await metadata(system, name)
        assert final == expected(set(range(PARTS * ROWS)))
        job = await system.ledger.get(name.removeprefix("jobs/"))
        (finish,) = await system.ledger.parts(job.id, job.parts)
        assert finish.result is not None
        head, *_ = (await system.objects.get(finish.result.object)).splitlines()
        assert json.loads(head)["summary"] == final


async def test_a_job_without_a_summary_shows_none(tmp_path: Path, ledger_url: str) -> None:
    async with running_jobs(tmp_path, ledger_url) as system:
        name = await system.submit(document(1))
        async with worker_beside(system):
            found = jp.JobMetadata()
            (await system.operation(name)).metadata.Unpack(found)
            replies = await system.follow(name)
        assert (found.summary_json, replies[0].summary_json) == ("", "")
