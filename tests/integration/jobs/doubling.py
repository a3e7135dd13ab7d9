"""Work for tests: a job's document says how many parts and rows it has, and each answer is the double of its row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from jobs.ledger import Job, Ledger, PartKind
from jobs.objects import Objects
from jobs.work import Answers
from triptych.errors import InvalidRequest, Unavailable


def document(parts: int, rows: int = 3, start: int = 0, **faults: Any) -> str:
    """A job with the rows `start`, `start` + 1, ..."""
    return json.dumps({"parts": parts, "rows": rows, "start": start, **faults})


class Doubling:
    """Answers in JSON: job, version, and the answers by row. Keys of the document inject faults."""

    def __init__(self) -> None:
        self.versions = iter(range(1, 1_000_000))
        self.asked: list[Mapping[str, Any]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.answering = asyncio.Event()
        self.permits: asyncio.Semaphore | None = None  # one for each answer

    def check(self, document: str) -> str:
        return "doubling"

    def close(self) -> None:
        pass

    async def resolve(self, job: Job) -> tuple[str, int]:
        if "unknown" in json.loads(job.document):
            raise InvalidRequest("want a model that exists")
        return "doubling", next(self.versions)

    async def plan(self, job: Job) -> AsyncIterator[Mapping[str, Any]]:
        asked = json.loads(job.document)
        for part in range(asked["parts"]):
            yield {"first": asked["start"] + part * asked["rows"], "rows": asked["rows"]}

    async def answer(self, job: Job, spec: Mapping[str, Any]) -> Answers:
        self.answering.set()
        await self.may_answer.wait()
        if self.permits is not None:
            await self.permits.acquire()
        self.asked.append(spec)
        asked, tries = json.loads(job.document), self.asked.count(spec)
        if tries <= asked.get("away", 0):
            raise Unavailable("preprocess does not answer")
        if tries <= asked.get("crashes", 0):
            raise ZeroDivisionError("division by zero")
        if spec["first"] == asked.get("refused"):
            raise InvalidRequest("column 'price': want FP32, got text")
        rows = range(spec["first"], spec["first"] + spec["rows"])
        answers = {"job": job.id, "version": job.version, "answers": {row: 2 * row for row in rows}}
        return Answers(json.dumps(answers).encode(), len(rows))


async def faults_of(ledger: Ledger, objects: Objects, job: Job) -> list[str]:
    """Rows that are lost, doubled or mixed in the result of a job that has succeeded, read by its manifest."""
    asked = json.loads(job.document)
    (finish,) = [part for part in await ledger.parts(job.id, job.parts) if part.kind is PartKind.FINISH]
    assert finish.result is not None
    head, *lines = (await objects.get(finish.result.object)).splitlines()
    found: list[str] = []
    if json.loads(head)["rows"] != job.rows:
        found.append(f"mixed: the manifest counts {json.loads(head)['rows']} rows, the ledger {job.rows}")
    seen: dict[int, int] = {}
    for line in lines:
        part = json.loads(await objects.get(json.loads(line)["object"]))
        if (part["job"], part["version"]) != (job.id, job.version):
            found.append(f"mixed: {line!r} is of job {part['job']}, version {part['version']}")
        for row, answer in part["answers"].items():
            if int(row) in seen:
                found.append(f"doubled: row {row}")
            if answer != 2 * int(row):
                found.append(f"mixed: row {row} has the answer {answer}")
            seen[int(row)] = answer
    wanted = range(asked["start"], asked["start"] + asked["parts"] * asked["rows"])
    found += [f"lost: row {row}" for row in wanted if row not in seen]
    return found + [f"mixed: row {row} is of no job" for row in seen if row not in wanted]
