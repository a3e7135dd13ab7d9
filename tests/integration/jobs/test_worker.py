"""Workers with a real ledger and a folder of objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from jobs.expiry import expire
from jobs.ledger import Job, JobState, Ledger, NewJob, PartState
from jobs.metrics import JobsMetrics
from jobs.objects import Objects
from jobs.worker import PartWorker, WorkerOptions
from tests.integration.jobs.conftest import StartLedger
from tests.integration.jobs.doubling import Doubling, document, faults_of

WAIT_S = 60.0
FAST = {"renew_s": 0.05, "idle_s": 0.02}


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(str(tmp_path / "objects"))


@asynccontextmanager
async def working(ledger: Ledger, objects: Objects, work: Doubling, **options: object) -> AsyncIterator[PartWorker]:
    """A worker that runs until the end of the block, and ends in order."""
    worker = PartWorker(ledger, objects, work, WorkerOptions(**FAST | options))  # type: ignore[arg-type]
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await running


async def ended(ledger: Ledger, job: Job) -> Job:
    async with asyncio.timeout(WAIT_S):
        while not (job := await ledger.get(job.id)).has_ended:
            await ledger.wait(job.id, job.revision, WAIT_S)
    return job


async def test_jobs_are_worked_off(ledger: Ledger, objects: Objects) -> None:
    jobs = [await ledger.submit(NewJob(str(n), document(4, start=100 * n))) for n in range(3)]
    async with working(ledger, objects, Doubling(), parallel=2):
        jobs = [await ended(ledger, job) for job in jobs]
    for job in jobs:
        assert (job.state, job.parts, job.rows) == (JobState.SUCCEEDED, 4, 12)
        assert (job.model, job.version > 0, job.seconds > 0) == ("doubling", True, True)
        assert await faults_of(ledger, objects, job) == []


async def test_a_fault_that_nobody_foresaw_ends_no_worker(
    ledger: Ledger, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"claim": ledger.claim, "commit": ledger.commit}

    def failing_once(name: str) -> None:
        async def call(*args: Any, **options: Any) -> Any:
            monkeypatch.setattr(ledger, name, calls[name])
            raise RuntimeError("unforeseen")

        monkeypatch.setattr(ledger, name, call)

    for name in calls:
        failing_once(name)
    job = await ledger.submit(NewJob("r", document(3)))
    async with working(ledger, objects, Doubling(), lease_s=1.0):
        job = await ended(ledger, job)
    assert (job.state, await faults_of(ledger, objects, job)) == (JobState.SUCCEEDED, [])


async def test_large_plan_is_added_in_pieces(
    start: StartLedger, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.worker.PARTS_AT_ONCE", 3)
    ledger = await start(attempts=1)
    job = await ledger.submit(NewJob("r", document(7)))
    async with working(ledger, objects, Doubling()):
        job = await ended(ledger, job)
    assert (job.parts, await faults_of(ledger, objects, job)) == (7, [])


async def test_plan_is_continued_with_the_pinned_version(ledger: Ledger, objects: Objects) -> None:
    job = await ledger.submit(NewJob("r", document(3)))
    lost = await ledger.claim("lost", WAIT_S)
    assert lost is not None
    await ledger.pin(lost, "doubling", 77)
    assert await ledger.add_parts(lost, [{"first": 0, "rows": 3}], 1)
    assert await ledger.renew(lost, 0.0)
    async with working(ledger, objects, Doubling()):
        job = await ended(ledger, job)
    assert (job.version, job.parts, await faults_of(ledger, objects, job)) == (77, 3, [])


async def test_bad_part_fails_its_job_and_no_other(ledger: Ledger, objects: Objects) -> None:
    bad = await ledger.submit(NewJob("bad", document(3, refused=3)))
    unknown = await ledger.submit(NewJob("unknown", document(3, unknown=True)))
    good = await ledger.submit(NewJob("good", document(3)))
    async with working(ledger, objects, Doubling()):
        bad, unknown, good = [await ended(ledger, job) for job in (bad, unknown, good)]
    assert (bad.state, bad.error) == (JobState.FAILED, "part 2 failed: column 'price': want FP32, got text")
    assert unknown.error == "the part that is to plan the job failed: want a model that exists"
    assert good.state is JobState.SUCCEEDED


async def test_part_is_tried_again(start: StartLedger, objects: Objects) -> None:
    ledger = await start(attempts=2, backoff_s=0.0)
    once = await ledger.submit(NewJob("once", document(2, crashes=1)))
    async with working(ledger, objects, Doubling()):
        once = await ended(ledger, once)
    often = await ledger.submit(NewJob("often", document(2, start=100, crashes=2)))
    async with working(ledger, objects, Doubling()):
        often = await ended(ledger, often)
    assert await faults_of(ledger, objects, once) == []
    assert often.error == "part 1 failed 2 times, at last: ZeroDivisionError: division by zero"


async def test_stage_that_is_away_costs_no_try(
    start: StartLedger, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.worker.POSTPONE_S", 0.0)
    ledger = await start(attempts=1)
    job = await ledger.submit(NewJob("r", document(2, away=4)))
    async with working(ledger, objects, Doubling()):
        job = await ended(ledger, job)
    assert (job.state, await faults_of(ledger, objects, job)) == (JobState.SUCCEEDED, [])


async def test_stopped_worker_returns_its_part_at_once(ledger: Ledger, objects: Objects) -> None:
    job, work = await ledger.submit(NewJob("r", document(1))), Doubling()
    work.may_answer.clear()
    async with working(ledger, objects, work, lease_s=3600.0):
        await asyncio.wait_for(work.answering.wait(), WAIT_S)
    part = (await ledger.parts(job.id))[1]
    assert (part.state, part.attempts) == (PartState.WAITING, 0)
    async with working(ledger, objects, Doubling()):
        assert (await ended(ledger, job)).state is JobState.SUCCEEDED


async def test_cancelled_job_ends_the_work(ledger: Ledger, objects: Objects) -> None:
    job, work = await ledger.submit(NewJob("r", document(1))), Doubling()
    work.may_answer.clear()
    async with working(ledger, objects, work):
        await asyncio.wait_for(work.answering.wait(), WAIT_S)
        await ledger.cancel(job.id)
        other = await ledger.submit(NewJob("other", document(0)))  # the one worker is free for it
        assert (await ended(ledger, other)).state is JobState.SUCCEEDED
    assert work.asked == []


async def test_long_part_keeps_its_lease(ledger: Ledger, objects: Objects) -> None:
    job, work = await ledger.submit(NewJob("r", document(1))), Doubling()
    work.may_answer.clear()
    async with working(ledger, objects, work, lease_s=2.0):
        await asyncio.wait_for(work.answering.wait(), WAIT_S)
        until = asyncio.get_running_loop().time() + 3.0  # beyond the first lease
        while asyncio.get_running_loop().time() < until:
            assert await ledger.claim("other", 60.0) is None
            await asyncio.sleep(0.1)
        work.may_answer.set()
        assert (await ended(ledger, job)).state is JobState.SUCCEEDED
    assert len(work.asked) == 1


async def test_expired_jobs_and_late_objects_are_removed(ledger: Ledger, objects: Objects, tmp_path: Path) -> None:
    short = await ledger.submit(NewJob("short", document(2), keep_s=0.0))
    long = await ledger.submit(NewJob("long", document(2)))
    async with working(ledger, objects, Doubling()):
        short, long = await ended(ledger, short), await ended(ledger, long)
    assert await expire(ledger, objects) == 1
    assert await faults_of(ledger, objects, long) == []
    assert await objects.folders("jobs") == [long.id]
    await objects.put(f"jobs/{short.id}/parts/1.9", b"by a worker that was paused for long")
    assert await expire(ledger, objects) == 0
    assert await objects.folders("jobs") == [long.id]
    assert not (tmp_path / "objects/jobs" / short.id).exists()


async def test_ends_of_parts_are_counted_by_outcome(start: StartLedger, objects: Objects) -> None:
    ledger, metrics = await start(backoff_s=0.01), JobsMetrics(CollectorRegistry())
    crashing = await ledger.submit(NewJob("crashing", document(2, crashes=1)))
    worker = PartWorker(ledger, objects, Doubling(), WorkerOptions(**FAST), metrics)  # type: ignore[arg-type]
    running = asyncio.create_task(worker.run())
    try:
        await ended(ledger, crashing)
        refused = await ended(ledger, await ledger.submit(NewJob("refused", document(1, refused=0))))
    finally:
        worker.stop()
        await running
    assert refused.state is JobState.FAILED
    samples = {
        (sample.name, sample.labels.get("outcome", "")): sample.value
        for metric in metrics.parts.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }
    # Two plans, a manifest and two parts; a crash of each of these, and the refusal.
    assert samples == {
        ("triptych_jobs_parts_total", "committed"): 5,
        ("triptych_jobs_parts_total", "failed"): 3,
    }
    assert metrics.rows.labels("answered")._value.get() == 6
    assert metrics.part_seconds._sum.get() > 0
