"""The ledger on SQLite and on Postgres: one sequence of calls for each rule."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from jobs.ledger import Claim, Job, JobState, Ledger, NewJob, PartKind, PartResult, PartState
from jobs.ledger.filesystems import network_file_system
from jobs.ledger.transaction import Transaction
from tests.integration.jobs.conftest import StartLedger
from triptych.errors import InvalidRequest, Overloaded, Unavailable, UnknownTarget

LEASE_S = 60.0  # longer than any test


async def submitted(ledger: Ledger, request_id: str = "r", document: str = "{}", **options: Any) -> Job:
    return await ledger.submit(NewJob(request_id, document, **options))


async def claimed(ledger: Ledger, worker: str = "w", lease_s: float = LEASE_S, job: Job | None = None) -> Claim:
    claim = await ledger.claim(worker, lease_s, job.id if job else None)
    assert claim is not None
    return claim


async def planned(ledger: Ledger, parts: int, request_id: str = "r", **options: Any) -> Job:
    """A job whose parts are all known, and none of them claimed."""
    job = await submitted(ledger, request_id, **options)
    plan = await claimed(ledger, job=job)
    assert plan.kind is PartKind.PLAN
    assert await ledger.add_parts(plan, [{"part": number} for number in range(1, parts + 1)], 1)
    assert await ledger.commit(plan, PartResult())
    return await ledger.get(job.id)


async def test_job_runs_from_its_plan_to_its_finish(ledger: Ledger) -> None:
    job = await planned(ledger, 2)
    assert (job.state, job.parts, job.committed) == (JobState.RUNNING, 2, 0)
    for number in (1, 2):
        claim = await claimed(ledger)
        assert (claim.number, claim.kind, claim.spec, claim.attempt) == (number, PartKind.ROWS, {"part": number}, 1)
        assert await ledger.commit(claim, PartResult(f"object-{number}", 10, 1, 0.5))
    job = await ledger.get(job.id)
    assert (job.state, job.committed, job.rows, job.bad_rows, job.seconds) == (JobState.RUNNING, 2, 20, 2, 1.0)
    finish = await claimed(ledger)
    assert (finish.number, finish.kind) == (3, PartKind.FINISH)
    assert await ledger.commit(finish, PartResult("manifest"))
    job = await ledger.get(job.id)
    assert job.state is JobState.SUCCEEDED
    assert job.ended_s is not None
    assert job.created_s <= (job.started_s or 0) <= job.ended_s
    assert await ledger.claim("w", LEASE_S) is None
    parts = await ledger.parts(job.id)
    assert [(part.number, part.state) for part in parts] == [(number, PartState.COMMITTED) for number in range(4)]
    assert parts[1].result == PartResult("object-1", 10, 1, 0.5)


async def test_parts_are_worked_on_while_the_job_is_planned(ledger: Ledger) -> None:
    job = await submitted(ledger)
    plan = await claimed(ledger)
    assert await ledger.add_parts(plan, [{}], 1)
    first = await claimed(ledger)
    assert await ledger.commit(first, PartResult())
    assert (await ledger.get(job.id)).state is JobState.PLANNING
    assert await ledger.add_parts(plan, [{}], 2)
    assert await ledger.commit(plan, PartResult())
    assert (await claimed(ledger)).number == 2


async def test_job_without_rows_is_finished_after_its_plan(ledger: Ledger) -> None:
    job = await planned(ledger, 0)
    finish = await claimed(ledger)
    assert (finish.number, finish.kind) == (1, PartKind.FINISH)
    assert await ledger.commit(finish, PartResult())
    assert (await ledger.get(job.id)).state is JobState.SUCCEEDED


async def test_submitting_twice_is_one_job(start: StartLedger) -> None:
    one, other = await start(), await start()
    tries = await asyncio.gather(*(submitted(ledger, "r", "a: 1") for ledger in (one, other) * 4))
    assert len({job.id for job in tries}) == 1
    with pytest.raises(InvalidRequest, match=f"request id 'r' is that of job {tries[0].id} with another content"):
        await submitted(other, "r", "a: 2")
    with pytest.raises(InvalidRequest, match="with another content"):
        await submitted(other, "r", "a: 1", background=True)


async def test_part_goes_to_one_of_many_workers(start: StartLedger) -> None:
    ledgers = [await start() for _ in range(3)]
    await planned(ledgers[0], 12)
    claims = await asyncio.gather(*(claimed(ledger, str(n)) for n, ledger in enumerate(ledgers * 4)))
    assert sorted(claim.number for claim in claims) == list(range(1, 13))
    assert await ledgers[0].claim("late", LEASE_S) is None


async def test_worker_whose_lease_ran_out_cannot_commit(ledger: Ledger) -> None:
    job = await planned(ledger, 1)
    late = await claimed(ledger, "late", lease_s=0.0)
    assert not await ledger.commit(late, PartResult("late"))  # before anybody else has the part
    new = await claimed(ledger, "new")
    assert (new.number, new.fence, new.attempt) == (late.number, late.fence + 1, 2)
    assert not await ledger.renew(late, LEASE_S)
    assert not await ledger.release(late)
    assert not await ledger.fail(late, "too late")
    assert not await ledger.commit(late, PartResult("late"))
    assert await ledger.commit(new, PartResult("new"))
    (part,) = await ledger.committed(job.id)
    assert part.result == PartResult("new")


async def test_commit_may_be_repeated_and_counts_once(ledger: Ledger) -> None:
    job = await planned(ledger, 2)
    claim = await claimed(ledger)
    assert await ledger.commit(claim, PartResult("a", rows=3))
    assert await ledger.commit(claim, PartResult("a", rows=3))
    job = await ledger.get(job.id)
    assert (job.committed, job.rows) == (1, 3)


async def test_renewed_lease_is_in_force(ledger: Ledger) -> None:
    await planned(ledger, 1)
    claim = await claimed(ledger)
    assert await ledger.renew(claim, 0.0)  # ends it
    assert not await ledger.renew(claim, LEASE_S)


async def test_released_part_is_free_at_once_and_its_try_does_not_count(start: StartLedger) -> None:
    ledger = await start(attempts=1)
    await planned(ledger, 1)
    for _ in range(3):
        claim = await claimed(ledger)
        assert claim.attempt == 1
        assert await ledger.release(claim)
        assert not await ledger.commit(claim, PartResult())


async def test_postponed_part_waits_and_its_try_does_not_count(start: StartLedger) -> None:
    ledger = await start(attempts=1)
    job = await planned(ledger, 1)
    for after_s in (0.0, 60.0):
        claim = await claimed(ledger)
        assert claim.attempt == 1
        assert await ledger.postpone(claim, "preprocess does not answer", after_s)
    assert await ledger.claim("w", LEASE_S) is None
    part = (await ledger.parts(job.id))[1]
    assert (part.state, part.error) == (PartState.WAITING, "preprocess does not answer")


async def test_failed_part_waits_for_its_backoff(start: StartLedger) -> None:
    ledger = await start(backoff_s=60.0)
    job = await planned(ledger, 2)
    failed = await claimed(ledger)
    assert await ledger.fail(failed, "no such column 'price'")
    assert (await claimed(ledger)).number == 2
    assert await ledger.claim("w", LEASE_S) is None
    part = (await ledger.parts(job.id))[1]
    assert (part.state, part.error) == (PartState.WAITING, "no such column 'price'")


async def test_job_fails_with_the_sentence_after_the_last_try(start: StartLedger) -> None:
    ledger = await start(attempts=3, backoff_s=0.0)
    job = await planned(ledger, 2)
    for attempt in (1, 2, 3):
        claim = await claimed(ledger)
        assert (claim.number, claim.attempt) == (1, attempt)
        assert await ledger.fail(claim, f"fault {attempt}")
    job = await ledger.get(job.id)
    assert (job.state, job.error) == (JobState.FAILED, "part 1 failed 3 times, at last: fault 3")
    assert await ledger.claim("w", LEASE_S) is None


async def test_final_failure_is_not_tried_again(ledger: Ledger) -> None:
    job = await planned(ledger, 1)
    assert await ledger.fail(await claimed(ledger), "no such file", final=True)
    job = await ledger.get(job.id)
    assert (job.state, job.error) == (JobState.FAILED, "part 1 failed: no such file")


async def test_plan_that_fails_fails_the_job(ledger: Ledger) -> None:
    job = await submitted(ledger)
    assert await ledger.fail(await claimed(ledger), "unknown model 'x'", final=True)
    assert (await ledger.get(job.id)).error == "the part that is to plan the job failed: unknown model 'x'"


async def test_part_that_kills_its_workers_fails_the_job(start: StartLedger) -> None:
    ledger = await start(attempts=2)
    job = await planned(ledger, 1)
    other = await planned(ledger, 2, "other")
    for _ in range(2):
        await claimed(ledger, lease_s=0.0, job=job)
    await claimed(ledger, job=other)
    assert (await claimed(ledger)).job.id == other.id  # the call that gives the one up goes on to the next
    job = await ledger.get(job.id)
    assert job.state is JobState.FAILED
    assert job.error == "part 1 failed 2 times, at last: its worker did not renew the lease"


async def test_cancelled_job_takes_nothing_from_a_lease(ledger: Ledger) -> None:
    job = await planned(ledger, 2)
    assert await ledger.commit(await claimed(ledger), PartResult())
    claim = await claimed(ledger)
    assert (await ledger.cancel(job.id)).state is JobState.CANCELLED
    assert not await ledger.renew(claim, LEASE_S)
    assert not await ledger.fail(claim, "a fault")
    assert not await ledger.fail(claim, "a fault", final=True)
    assert not await ledger.postpone(claim, "later", 1.0)
    assert not await ledger.release(claim)
    assert not await ledger.commit(claim, PartResult())
    assert await ledger.claim("w", LEASE_S) is None
    job = await ledger.cancel(job.id)  # again: no change
    assert (job.state, job.committed) == (JobState.CANCELLED, 1)
    assert len(await ledger.committed(job.id)) == 1


async def test_jobs_take_turns_and_background_jobs_come_last(ledger: Ledger) -> None:
    jobs = {
        name: await planned(ledger, 3, name, background=name == "background") for name in ("background", "one", "two")
    }
    names = {job.id: name for name, job in jobs.items()}
    turns = [names[(await claimed(ledger)).job.id] for _ in range(9)]
    assert turns == ["one", "two"] * 3 + ["background"] * 3


async def test_second_planner_goes_on_where_the_first_ended(ledger: Ledger) -> None:
    await submitted(ledger)
    lost = await claimed(ledger)
    assert await ledger.add_parts(lost, [{}, {}], 1)
    assert await ledger.renew(lost, 0.0)
    plan = await claimed(ledger)
    assert (plan.number, plan.job.parts) == (0, 2)
    assert not await ledger.add_parts(lost, [{}], 3)
    assert not await ledger.commit(lost, PartResult())
    with pytest.raises(InvalidRequest, match="want part 3 next, got part 2"):
        await ledger.add_parts(plan, [{}], 2)
    assert await ledger.add_parts(plan, [{}], 3)


async def test_first_planner_pins_the_version(ledger: Ledger) -> None:
    await submitted(ledger)
    lost = await claimed(ledger)
    pinned = await ledger.pin(lost, "sales_forecast_de", 3)
    assert pinned is not None
    assert await ledger.renew(lost, 0.0)
    assert await ledger.pin(lost, "sales_forecast_de", 4) is None
    pinned = await ledger.pin(await claimed(ledger), "sales_forecast_de", 4)
    assert pinned is not None
    assert (pinned.model, pinned.version) == ("sales_forecast_de", 3)


async def test_claim_has_the_job_as_it_is_with_the_part(
    start: StartLedger, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is chosen while it has no version, and the part appears in the next moment."""
    if ledger_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer, so nothing happens inside a claim")
    ledger, other = await start(), await start()
    await submitted(ledger)
    await claimed(ledger, lease_s=0.0)  # by a planner that died
    choose = Transaction.next_job

    async def next_job(self: Transaction, *arguments: Any) -> str | None:
        chosen = await choose(self, *arguments)
        monkeypatch.undo()
        plan = await claimed(other)
        assert await other.pin(plan, "sales_forecast_de", 3)
        assert await other.add_parts(plan, [{}], 1)
        return chosen

    monkeypatch.setattr(Transaction, "next_job", next_job)
    claim = await claimed(ledger)
    assert (claim.number, claim.job.version, claim.job.parts) == (1, 3, 1)


async def test_job_that_is_cancelled_inside_a_claim_gives_none(
    start: StartLedger, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ledger_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer, so nothing happens inside a claim")
    ledger, other = await start(), await start()
    job = await submitted(ledger)
    choose = Transaction.next_job

    async def next_job(self: Transaction, *arguments: Any) -> str | None:
        chosen = await choose(self, *arguments)
        await other.cancel(job.id)
        return chosen

    monkeypatch.setattr(Transaction, "next_job", next_job)
    assert await ledger.claim("w", LEASE_S) is None
    assert (await ledger.parts(job.id))[0].state is PartState.WAITING


async def test_summaries_are_merged_with_each_commit(start: StartLedger) -> None:
    ledger = await start(merge=lambda whole, part: {"sum": (whole or {"sum": 0})["sum"] + part["sum"]})
    job = await planned(ledger, 2)
    sums = []
    for value in (2, 5):
        assert await ledger.commit(await claimed(ledger), PartResult(summary={"sum": value}))
        sums.append((await ledger.get(job.id)).summary)
    assert sums == [{"sum": 2}, {"sum": 7}]


async def test_commits_are_followed_in_their_order(ledger: Ledger) -> None:
    job = await planned(ledger, 3)
    claims = [await claimed(ledger) for _ in range(3)]
    for claim in reversed(claims):
        assert await ledger.commit(claim, PartResult(str(claim.number)))
    followed = await ledger.committed(job.id)
    assert [(part.sequence, part.number) for part in followed] == [(1, 3), (2, 2), (3, 1)]
    assert await ledger.committed(job.id, after=1) == followed[1:]
    assert await ledger.committed(job.id, after=1, limit=1) == followed[1:2]


async def test_wait_ends_with_a_change_by_another_process(start: StartLedger) -> None:
    ledger, other = await start(), await start()
    job = await submitted(ledger)
    waiting = asyncio.create_task(ledger.wait(job.id, job.revision, 60))
    await other.cancel(job.id)
    assert (await waiting).state is JobState.CANCELLED
    job = await ledger.get(job.id)
    assert await ledger.wait(job.id, job.revision, 0.0) == job


async def test_many_wait_with_one_query_for_all(start: StartLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, other = await start(), await start()
    asked: list[int] = []
    read = ledger._changes._read

    async def counted(job_ids: Any) -> Any:
        asked.append(len(job_ids))
        return await read(job_ids)

    monkeypatch.setattr(ledger._changes, "_read", counted)
    jobs = [await submitted(ledger, str(number)) for number in range(3)]
    waiting = [asyncio.create_task(ledger.wait(job.id, job.revision, 60)) for job in jobs for _ in range(20)]
    for job in jobs:
        await other.cancel(job.id)
    assert {job.state for job in await asyncio.gather(*waiting)} == {JobState.CANCELLED}
    assert asked
    assert max(asked) <= 3


async def test_list_leaves_out_documents(ledger: Ledger) -> None:
    job = await submitted(ledger, document="large")
    ((listed,), _) = await ledger.list_jobs()
    assert (listed.id, listed.document, (await ledger.get(job.id)).document) == (job.id, "", "large")


async def test_jobs_are_listed_by_pages(ledger: Ledger) -> None:
    made = [(await submitted(ledger, str(number))).id for number in range(5)]
    listed, token, pages = [], "", 0
    while pages == 0 or token:
        page, token = await ledger.list_jobs(2, token)
        listed += [job.id for job in page]
        pages += 1
    assert (listed, pages) == (made[::-1], 3)
    await ledger.cancel(made[3])
    assert [job.id for job in (await ledger.list_jobs(states=[JobState.CANCELLED]))[0]] == [made[3]]
    for token in ("x", "-1", "9" * 30, "٣"):
        with pytest.raises(InvalidRequest, match="want a page token"):
            await ledger.list_jobs(2, token)


async def test_unknown_job_is_named(ledger: Ledger) -> None:
    for call in (ledger.get("x"), ledger.cancel("x"), ledger.delete("x"), ledger.wait("x", 0, 1)):
        with pytest.raises(UnknownTarget, match="unknown job 'x'"):
            await call


async def test_deleted_job_is_gone_and_its_request_id_free(ledger: Ledger) -> None:
    job = await submitted(ledger)
    with pytest.raises(InvalidRequest, match="is planning; cancel it before"):
        await ledger.delete(job.id)
    await ledger.cancel(job.id)
    await ledger.delete(job.id)
    with pytest.raises(UnknownTarget):
        await ledger.get(job.id)
    assert (await ledger.list_jobs()) == ([], "")
    assert (await submitted(ledger, document="another")).id != job.id
    assert await ledger.expired() == [job.id]
    assert await ledger.unknown([job.id, "x"]) == {"x"}
    await ledger.purge(job.id)
    assert await ledger.expired() == []
    assert await ledger.parts(job.id) == []
    assert await ledger.unknown([job.id]) == {job.id}


async def test_job_expires_after_its_time_to_keep(ledger: Ledger) -> None:
    short, long = await submitted(ledger, "short", keep_s=0.0), await submitted(ledger, "long")
    assert await ledger.expired() == []  # they have not ended
    for job in (short, long):
        await ledger.cancel(job.id)
    assert await ledger.expired() == [short.id]
    await ledger.purge(long.id)  # no effect
    assert (await ledger.get(long.id)).has_ended


async def test_large_job_is_purged_in_pieces(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.ledger.ledger.PURGE_PARTS", 2)
    job = await planned(ledger, 5, keep_s=0.0)
    await ledger.cancel(job.id)
    await ledger.purge(job.id)
    assert (await ledger.parts(job.id), await ledger.unknown([job.id])) == ([], {job.id})


async def test_job_that_misses_its_deadline_fails(ledger: Ledger) -> None:
    late = await submitted(ledger, "late", deadline_s=1e-9)
    good = await submitted(ledger, "good", deadline_s=3600.0)
    await ledger.expired()
    assert (await ledger.get(late.id)).error == "the deadline of the job has passed"
    assert (await ledger.get(good.id)).state is JobState.PLANNING


async def test_open_parts_are_those_of_live_jobs(ledger: Ledger) -> None:
    assert await ledger.open_parts() == 0
    jobs = [await planned(ledger, 2, str(number)) for number in range(2)]
    assert await ledger.commit(await claimed(ledger), PartResult())
    assert await ledger.open_parts() == 3
    await ledger.cancel(jobs[0].id)
    assert await ledger.open_parts() in (1, 2)


async def test_open_parts_are_those_that_some_worker_has_to_do_from_the_first_to_the_last(ledger: Ledger) -> None:
    """Without the plan and the manifest no worker would be started for a new job, and none end it."""
    job = await submitted(ledger)

    async def undone() -> int:
        return sum(part.state is not PartState.COMMITTED for part in await ledger.parts(job.id))

    assert (await ledger.open_parts(), await undone()) == (1, 1)
    plan = await claimed(ledger)
    assert await ledger.add_parts(plan, [{}, {}], 1)
    assert (await ledger.open_parts(), await undone()) == (3, 3)
    assert await ledger.commit(plan, PartResult())
    for left in (2, 1, 1, 0):  # the last one is the manifest
        assert (await ledger.open_parts(), await undone()) == (left, left)
        if left:
            assert await ledger.commit(await claimed(ledger), PartResult())


async def test_limits_refuse_with_a_sentence(start: StartLedger) -> None:
    ledger = await start(jobs=2, parts_per_job=3, document_bytes=10)
    with pytest.raises(InvalidRequest, match="want a document of at most 10 bytes, got 12"):
        await submitted(ledger, document="ä" * 6)
    await submitted(ledger, document="ä" * 5)
    plan = await claimed(ledger)
    assert await ledger.add_parts(plan, [{}] * 3, 1)
    with pytest.raises(InvalidRequest, match="want at most 3 parts of a job"):
        await ledger.add_parts(plan, [{}], 4)
    await submitted(ledger, "second")
    await submitted(ledger, "second")  # is kept already
    with pytest.raises(Overloaded, match="2 jobs are kept, the limit"):
        await submitted(ledger, "third")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"request_id": ""}, "want a request id of 1 to 255 characters"),
        ({"request_id": "x" * 256}, "got 256 characters"),
        ({"request_id": "a\0b"}, "without the character NUL"),
        ({"document": "\0"}, "without the character NUL"),
        ({"keep_s": -1.0}, "want a time to keep"),
        ({"keep_s": float("nan")}, "want a time to keep"),
        ({"keep_s": float("inf")}, "at most 100 years"),
        ({"deadline_s": 0.0}, "a deadline in the future"),
        ({"deadline_s": float("nan")}, "a deadline in the future"),
    ],
)
async def test_bad_submissions_are_refused(ledger: Ledger, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        await submitted(ledger, **{"request_id": "r", "document": "{}"} | options)
    assert (await ledger.list_jobs()) == ([], "")


async def test_cancelled_call_leaves_the_ledger_usable(ledger: Ledger) -> None:
    for number in range(20):
        call = asyncio.create_task(submitted(ledger, str(number)))
        for _ in range(number):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    job = await submitted(ledger, "after")
    assert await ledger.get(job.id) == job


async def test_many_parts_are_added_and_claimed(ledger: Ledger) -> None:
    job = await submitted(ledger)
    plan = await claimed(ledger)
    for first in range(1, 20_001, 5_000):
        assert await ledger.add_parts(plan, [{"row": first + number} for number in range(5_000)], first)
    assert (await ledger.get(job.id)).parts == 20_000
    claim = await claimed(ledger)
    assert (claim.number, claim.spec) == (1, {"row": 1})


async def test_tables_of_another_release_are_refused(start: StartLedger, ledger_url: str) -> None:
    from sqlalchemy import update

    from jobs.ledger.database import database
    from jobs.ledger.tables import schema

    await start()
    place = database(ledger_url)
    async with place.write() as connection:
        await connection.execute(update(schema).values(version=99))
    await place.close()
    with pytest.raises(ValueError, match="want tables of version 1, got version 99"):
        await start()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite://", "a ledger in memory is not durable"),
        ("sqlite:///:memory:", "a ledger in memory is not durable"),
        ("mysql://host/jobs", "got the kind 'mysql'"),
        ("jobs.db", "want a file as in sqlite:///jobs.db, or postgresql://"),
    ],
)
async def test_other_databases_are_refused(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        await Ledger.open(url)


async def test_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"ledger postgresql://me:\*\*\*@127.0.0.1:1/jobs does not answer"):
        await Ledger.open("postgresql://me:secret@127.0.0.1:1/jobs")
    with pytest.raises(ValueError, match=r"unable to open database file; want a file in a folder that exists"):
        await Ledger.open(f"sqlite:///{tmp_path}/missing/jobs.db")


async def test_sqlite_is_refused_on_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    lines = ["22 1 254:0 / / rw - ext4 /dev/vda rw", f"90 22 0:50 / {tmp_path} rw,relatime shared:9 - nfs4 nas:/x rw"]
    mounts.write_text("\n".join(lines))
    assert network_file_system(tmp_path / "a/b", mounts) == "nfs4"
    assert network_file_system(Path("/usr"), mounts) == ""
    mounts.write_text("\n".join([*lines, f"91 90 0:51 / {tmp_path} rw - tmpfs tmpfs rw"]))
    assert network_file_system(tmp_path / "a", mounts) == ""
    assert network_file_system(tmp_path, tmp_path / "no mounts") == ""
    mounts.write_text("\n".join(lines))
    monkeypatch.setattr("jobs.ledger.database.network_file_system", lambda folder: network_file_system(folder, mounts))
    with pytest.raises(ValueError, match=r"is on a network file system \(nfs4\), where SQLite loses what it wrote"):
        await Ledger.open(f"sqlite:///{tmp_path}/jobs.db")


async def test_sqlite_is_durable(tmp_path: Path) -> None:
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/jobs.db")
    async with ledger._database.read() as connection:
        names = ("journal_mode", "synchronous")
        found = [(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in names]
    await ledger.close()
    assert found == ["wal", 2]


def test_url_of_postgres_shows_no_password() -> None:
    assert "secret" not in make_url("postgresql://a:secret@b/c").render_as_string()
