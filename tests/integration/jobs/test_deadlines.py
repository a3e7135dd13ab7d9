"""Deadlines of jobs on SQLite and on Postgres: judged at Submit and by the plan, from measured parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from jobs.ledger import Job, Ledger, NewJob, PartKind, PartResult
from tests.integration.jobs.conftest import StartLedger
from tests.integration.jobs.doubling import document
from tests.integration.jobs.running_jobs import running_jobs, worker_beside
from triptych.errors import UnreachableDeadline
from triptych.protocol import jobs_pb2 as jp

LEASE_S = 600.0


async def planned(ledger: Ledger, parts: int, request_id: str, model: str = "m", **options: Any) -> Job:
    """A job of a model with so many parts, all known and none claimed."""
    job = await ledger.submit(NewJob(request_id, "{}", model=model, **options))
    plan = await ledger.claim("w", LEASE_S, job.id)
    assert plan is not None
    assert plan.kind is PartKind.PLAN
    await ledger.pin(plan, model, 1)
    await ledger.add_parts(plan, [{}] * parts, 1)
    await ledger.commit(plan, PartResult())
    return await ledger.get(job.id)


async def measured(ledger: Ledger, seconds: float, model: str = "m", parts: int = 2) -> None:
    """A job that has succeeded, with parts of so many seconds."""
    job = await planned(ledger, parts, f"measured {model} {seconds}", model)
    for _ in range(parts + 1):
        claim = await ledger.claim("w", LEASE_S, job.id)
        assert claim is not None
        await ledger.commit(claim, PartResult(seconds=seconds if claim.kind is PartKind.ROWS else 0.0))


async def refused(ledger: Ledger, deadline_s: float, **options: Any) -> UnreachableDeadline:
    new = NewJob("late", "{}", deadline_s=deadline_s, model="m", **options)
    with pytest.raises(UnreachableDeadline) as caught:
        await ledger.validate(new)
    with pytest.raises(UnreachableDeadline, match="want a deadline of at least"):
        await ledger.submit(new)
    return caught.value


async def test_a_job_of_a_model_that_was_never_measured_is_accepted(ledger: Ledger) -> None:
    await measured(ledger, 100.0, "other")
    assert (await ledger.submit(NewJob("r", "{}", deadline_s=0.5, model="m"))).deadline_s is not None


async def test_a_job_that_cannot_be_done_in_time_is_refused_with_the_time_that_it_takes(ledger: Ledger) -> None:
    await measured(ledger, 10.0)
    error = await refused(ledger, 5.0)
    assert str(error) == (
        "want a deadline of at least 10.0 s from now, got 5.0 s: a part of model 'm' takes 10.0 s, "
        "1 are worked on at once"
    )
    assert error.reachable_s == 10.0
    job = await ledger.submit(NewJob("late", "{}", deadline_s=10.0, model="m"))  # the request id is still free
    assert not job.has_ended


async def test_other_jobs_come_in_turns_and_background_jobs_behind(ledger: Ledger) -> None:
    await measured(ledger, 10.0)
    await planned(ledger, 7, "one")
    await planned(ledger, 1, "two")
    await planned(ledger, 3, "behind", background=True)
    assert (await refused(ledger, 29.0)).reachable_s == 30.0  # a part of each, then its own
    assert "behind 2 parts of other jobs" in str(await refused(ledger, 29.0))
    assert (await refused(ledger, 99.0, background=True)).reachable_s == 100.0  # 8 parts, one of its class, its own
    await ledger.submit(NewJob("r", "{}", deadline_s=31.0, model="m"))


async def test_workers_share_the_parts_of_a_backlog(start: StartLedger) -> None:
    ledger = await start(parts_at_once=4)
    await measured(ledger, 10.0)
    for number in range(7):
        await planned(ledger, 5, str(number))
    assert (await refused(ledger, 19.0)).reachable_s == 20.0
    assert (await refused(ledger, 9.0)).reachable_s >= 10.0


async def test_the_latest_jobs_are_measured(ledger: Ledger) -> None:
    await measured(ledger, 1000.0)
    for number in range(10):
        await measured(ledger, 10.0 + number / 1e6)
    assert (await refused(ledger, 5.0)).reachable_s == pytest.approx(10.0, abs=0.01)


async def test_a_job_is_judged_again_by_its_known_parts(ledger: Ledger) -> None:
    await measured(ledger, 10.0)
    await planned(ledger, 2, "other")
    job = await planned(ledger, 5, "r", deadline_s=30.0)
    with pytest.raises(UnreachableDeadline, match=r"at least 70\.0 s from now, got [\d.]+ s.*behind 2 parts"):
        await ledger.check_deadline(job.id)
    await ledger.check_deadline((await planned(ledger, 5, "early", deadline_s=1000.0)).id)
    await ledger.check_deadline((await planned(ledger, 50, "none")).id)
    await ledger.check_deadline("unknown")


async def test_the_service_refuses_and_the_plan_fails_at_once(tmp_path: Path, ledger_url: str) -> None:
    async with running_jobs(tmp_path, ledger_url, total_parallel_parts=2) as system:
        await measured(system.ledger, 10.0, "doubling")
        for validate_only in (True, False):
            with pytest.raises(aio.AioRpcError, match=r"want a deadline of at least 10\.0 s") as caught:
                await system.submit(document(1), deadline_s=9.0, validate_only=validate_only)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        name = await system.submit(document(400), deadline_s=60.0)  # whose parts are not known yet
        async with worker_beside(system):
            operation = await system.operation(name)
        metadata = jp.JobMetadata()
        operation.metadata.Unpack(metadata)
        assert "want a deadline of at least" in operation.error.message
        assert "a part of model 'doubling' takes" in operation.error.message
        assert metadata.committed < 400
