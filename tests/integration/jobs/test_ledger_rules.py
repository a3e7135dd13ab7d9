"""Random sequences of workers, cancellations and repeated submissions against the rules of the ledger."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Column, Double, MetaData, Table, insert, select, update

from jobs.ledger import Claim, Job, JobState, Ledger, LedgerLimits, NewJob, PartKind, PartResult, PartState
from jobs.ledger.database import Clock, database
from jobs.ledger.tables import metadata
from tests.integration.postgres import Postgres

T = TypeVar("T")

LEASE_S, BACKOFF_S, ATTEMPTS = 1_000.0, 100.0, 4
# The clock of the database, set forward by the tests in place of waiting.
time_metadata = MetaData()
time_table = Table("test_clock", time_metadata, Column("offset_s", Double, nullable=False))
OFFSET = select(time_table.c.offset_s).scalar_subquery()


class LedgerMachine(RuleBasedStateMachine):
    """Workers with claims in any order. The model knows which lease is in force, and what was committed."""

    url: ClassVar[str]
    jobs, claims = Bundle("jobs"), Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now_s = 0.0  # by the model
        self.ledger = self.run(self.opened())
        self.submitted: dict[str, Job] = {}  # by request id
        self.ended: dict[str, JobState] = {}
        self.leases: dict[tuple[str, int], tuple[int, float]] = {}  # fence and end of the latest claim of each part
        self.committed: dict[tuple[str, int], str] = {}
        self.fences: dict[tuple[str, int], int] = {}
        self.planned: dict[str, int] = {}
        self.sealed: set[str] = set()

    async def opened(self) -> Ledger:
        place = database(self.url)
        async with place.write() as connection:
            for each in (metadata, time_metadata):
                await connection.run_sync(each.drop_all)
            await connection.run_sync(time_metadata.create_all)
            await connection.execute(insert(time_table).values(offset_s=0.0))
        await place.close()
        limits = LedgerLimits(attempts=ATTEMPTS, backoff_s=BACKOFF_S)
        return await Ledger.open(self.url, limits, clock=Clock() + OFFSET)

    def run(self, call: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await call

        return self.runner.run(awaited())

    def in_force(self, claim: Claim) -> bool:
        fence, until_s = self.leases[claim.job.id, claim.number]
        return fence == claim.fence and self.now_s < until_s and claim.job.id not in self.ended

    # Rules.

    @rule(target=jobs, request_id=st.sampled_from("abc"), background=st.booleans())
    def submit(self, request_id: str, background: bool) -> Any:
        before = self.submitted.get(request_id)
        if before is not None:  # again
            job = self.run(self.ledger.submit(NewJob(request_id, request_id, background=before.background)))
            assert job.id == before.id
            return multiple()
        self.submitted[request_id] = job = self.run(
            self.ledger.submit(NewJob(request_id, request_id, background=background))
        )
        return job.id

    @rule(target=claims, worker=st.sampled_from("uvw"))
    def claim(self, worker: str) -> Any:
        claim = self.run(self.ledger.claim(worker, LEASE_S))
        if claim is None:
            self.note_failures()
            return multiple()
        key = (claim.job.id, claim.number)
        assert key not in self.committed, "a committed part is not claimed"
        assert claim.job.id not in self.ended, "a job that has ended has no part to claim"
        if key in self.leases:
            assert self.now_s >= self.leases[key][1], "a lease in force is respected"
        assert claim.fence > self.fences.get(key, 0), "each claim has a higher fencing token"
        self.fences[key] = claim.fence
        self.leases[key] = (claim.fence, self.now_s + LEASE_S)
        self.note_failures()
        return claim

    @rule(seconds=st.sampled_from([BACKOFF_S, LEASE_S / 2, LEASE_S]))
    def time_passes(self, seconds: float) -> None:
        """Workers pause or die: who holds a claim may use it much later, or never."""
        self.now_s += seconds + 0.5

        async def advance() -> None:
            async with self.ledger._database.write() as connection:
                await connection.execute(update(time_table).values(offset_s=self.now_s))

        self.run(advance())

    @rule(claim=claims)
    def renew(self, claim: Claim) -> None:
        renewed = self.run(self.ledger.renew(claim, LEASE_S))
        assert renewed == self.in_force(claim)
        if renewed:
            self.leases[claim.job.id, claim.number] = (claim.fence, self.now_s + LEASE_S)

    @rule(claim=claims, count=st.integers(0, 3))
    def add_parts(self, claim: Claim, count: int) -> None:
        if claim.kind is not PartKind.PLAN:
            return
        planned = self.planned.get(claim.job.id, 0)
        added = self.run(self.ledger.add_parts(claim, [{}] * count, planned + 1))
        assert added == self.in_force(claim)
        self.planned[claim.job.id] = planned + count * added

    @rule(count=st.integers(1, 4))
    def work(self, count: int) -> None:
        """A worker that does all it claims."""
        for _ in range(count):
            claim = self.claim("x")
            if isinstance(claim, Claim):
                self.add_parts(claim, 2)
                self.commit(claim)

    @rule(claim=claims)
    def commit(self, claim: Claim) -> None:
        """Late, or twice, as it comes."""
        key, result = (claim.job.id, claim.number), f"{claim.number}.{claim.fence}"
        may = self.in_force(claim) or self.committed.get(key) == result
        assert self.run(self.ledger.commit(claim, PartResult(result, rows=1))) == may
        if may and key not in self.committed:
            self.committed[key] = result
            self.leases[key] = (claim.fence, -1.0)
            if claim.kind is PartKind.PLAN:
                self.sealed.add(claim.job.id)
            if claim.kind is PartKind.FINISH:
                self.ended[claim.job.id] = JobState.SUCCEEDED

    @rule(claim=consumes(claims), final=st.sampled_from([False, False, False, True]))
    def fail(self, claim: Claim, final: bool) -> None:
        may = self.in_force(claim)
        assert self.run(self.ledger.fail(claim, "a fault", final=final)) == may
        if may:
            self.leases[claim.job.id, claim.number] = (claim.fence, -1.0)
            if final or claim.attempt >= ATTEMPTS:
                self.ended[claim.job.id] = JobState.FAILED

    @rule(claim=consumes(claims))
    def release(self, claim: Claim) -> None:
        may = self.in_force(claim)
        assert self.run(self.ledger.release(claim)) == may
        if may:
            self.leases[claim.job.id, claim.number] = (claim.fence, -1.0)

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        job = self.run(self.ledger.cancel(job_id))
        self.ended.setdefault(job_id, JobState.CANCELLED)
        assert job.state is self.ended[job_id]

    def note_failures(self) -> None:
        """A claim fails the jobs whose part has lost its last worker."""
        for job in self.submitted.values():
            now = self.run(self.ledger.get(job.id))
            if now.state is JobState.FAILED and job.id not in self.ended:
                assert "its worker did not renew the lease" in now.error or "a fault" in now.error
                self.ended[job.id] = JobState.FAILED

    # What holds after each step.

    @invariant()
    def each_part_is_committed_once_and_none_is_lost(self) -> None:
        for job_id in (job.id for job in self.submitted.values()):
            parts = self.run(self.ledger.parts(job_id))
            rows = [part.number for part in parts if part.kind is PartKind.ROWS]
            assert rows == list(range(1, self.planned.get(job_id, 0) + 1))
            done = {(job_id, part.number): part.result.object for part in parts if part.result is not None}
            assert done == {key: value for key, value in self.committed.items() if key[0] == job_id}
            counted = [part.sequence for part in self.run(self.ledger.committed(job_id))]
            assert counted == list(range(1, len(counted) + 1))
            if job_id not in self.ended:
                assert {part.state for part in parts} <= {PartState.WAITING, PartState.LEASED, PartState.COMMITTED}

    @invariant()
    def job_ends_exactly_when_all_its_parts_are_committed(self) -> None:
        for job_id in (job.id for job in self.submitted.values()):
            job = self.run(self.ledger.get(job_id))
            kinds = Counter(part.kind for part in self.run(self.ledger.parts(job_id)))
            done = sum(1 for key in self.committed if key[0] == job_id and 0 < key[1] <= job.parts)
            assert (job.parts, job.committed, job.rows) == (self.planned.get(job_id, 0), done, done)
            all_committed = job_id in self.sealed and done == job.parts
            assert kinds[PartKind.FINISH] == (1 if all_committed else 0)
            assert job.has_ended == (job_id in self.ended)
            expected = JobState.RUNNING if job_id in self.sealed else JobState.PLANNING
            assert job.state is self.ended.get(job_id, expected)

    def teardown(self) -> None:
        self.run(self.ledger.close())
        self.runner.close()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        yield server.emptied()
        return
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # without a disk's syncs: no power fails here
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield f"sqlite:///{Path(folder) / 'rules.db'}"


@pytest.mark.timeout(600)
def test_ledger_keeps_its_rules_in_any_sequence_of_calls(url: str) -> None:
    class Machine(LedgerMachine):
        pass

    Machine.url = url
    checked = [HealthCheck.too_slow, HealthCheck.data_too_large]
    options = settings(max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=checked)
    run_state_machine_as_test(Machine, settings=options)
