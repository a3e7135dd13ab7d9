"""The worker: claims parts of any job, works on them under a lease, and commits what it has made."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from prometheus_client import CollectorRegistry

from jobs.ledger import Claim, Ledger, PartKind, PartResult
from jobs.manifest import manifest_lines
from jobs.metrics import JobsMetrics
from jobs.objects import Objects, object_name
from jobs.work import Work
from triptych.errors import (
    Internal,
    InvalidRequest,
    LoadFailed,
    NotSupported,
    Overloaded,
    TriptychError,
    Unavailable,
    UnknownTarget,
    UnreachableDeadline,
)

log = logging.getLogger(__name__)

POSTPONE_S = 1.0
PARTS_AT_ONCE = 1_000  # of a plan, in one transaction
# Errors that no other try can mend.
FINAL = (InvalidRequest, UnknownTarget, NotSupported, LoadFailed, UnreachableDeadline)


@dataclass(frozen=True)
class WorkerOptions:
    """Options of a worker.

    lease_s: a worker that does not renew within that time loses its part. renew_s: how often it does, and so the time
    until it notices a cancelled job. idle_s: pause before the next claim if there was nothing to claim. parallel: parts
    at once.
    """

    lease_s: float = 15.0
    renew_s: float = 1.0
    idle_s: float = 0.5
    parallel: int = 1
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")


class LeaseLost(Exception):
    """The lease is not in force any more: what was made is of no use."""


class PartWorker:
    """Works until it is stopped. An error of one part never ends it."""

    def __init__(
        self,
        ledger: Ledger,
        objects: Objects,
        work: Work,
        options: WorkerOptions | None = None,
        metrics: JobsMetrics | None = None,
    ) -> None:
        self._ledger, self._objects, self._work = ledger, objects, work
        self.options, self._metrics = options or WorkerOptions(), metrics or JobsMetrics(CollectorRegistry())
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Claim and work until `stop`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.options.parallel):
                group.create_task(self._claim_and_work())

    def stop(self) -> None:
        """End `run` soon: parts that are not finished are returned, so that another worker has them at once."""
        self._stopping.set()

    async def _claim_and_work(self) -> None:
        while not self._stopping.is_set():
            try:
                claim = await self._ledger.claim(self.options.name, self.options.lease_s)
                if claim is not None:
                    await self._work_on(claim)
                    continue
            except Unavailable as error:  # a lease that was in force runs out, and another worker takes the part
                log.warning("ledger does not answer", extra={"error": str(error)})
            except Exception:
                log.exception("the ledger failed")
            await self._pause(self.options.idle_s)

    async def _work_on(self, claim: Claim) -> None:
        """Work on a part, and report what became of it."""
        started_s = time.monotonic()
        about = {"job": claim.job.id, "part": claim.number, "attempt": claim.attempt}
        try:
            result = await self._while_leased(claim)
        except asyncio.CancelledError:
            raise
        except LeaseLost:
            log.info("lease lost", extra=about)
            self._count("lost")
        except (Unavailable, Overloaded) as error:  # not a fault of the part: its tries are not for that
            log.warning("part postponed", extra=about | {"error": str(error)})
            self._count("postponed")
            await self._ledger.postpone(claim, str(error), max(getattr(error, "retry_after_s", 0.0), POSTPONE_S))
        except TriptychError as error:
            log.warning("part failed", extra=about | {"error": str(error)})
            self._count("failed")
            await self._ledger.fail(claim, str(error), final=isinstance(error, FINAL))
        except Exception as error:
            log.exception("part failed", extra=about)
            self._count("failed")
            await self._ledger.fail(claim, f"{type(error).__name__}: {error}")
        else:
            if result is None:
                self._count("returned")
                await self._ledger.release(claim)
                return
            seconds = time.monotonic() - started_s
            await self._commit(claim, replace(result, seconds=seconds), about)

    async def _commit(self, claim: Claim, result: PartResult, about: Mapping[str, Any]) -> None:
        committed = await self._ledger.commit(claim, result)
        if committed:
            seconds = result.seconds if claim.kind is PartKind.ROWS else None
            self._metrics.committed(result.rows, result.bad_rows, seconds)
        else:
            self._count("lost")
        log.debug("part committed" if committed else "part was late", extra={**about, "seconds": result.seconds})

    def _count(self, outcome: str) -> None:
        self._metrics.parts.labels(outcome).inc()

    async def _while_leased(self, claim: Claim) -> PartResult | None:
        """The result of a part. None if the worker stops before. Raises `LeaseLost`, and the errors of the work."""
        working = asyncio.create_task(self._do(claim))
        renewing = asyncio.create_task(self._renew(claim))
        stopping = asyncio.create_task(self._stopping.wait())
        tasks = (working, renewing, stopping)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if renewing.done():
                renewing.result()
                raise LeaseLost
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self, claim: Claim) -> None:
        """Renew the lease until it is lost."""
        until_s = time.monotonic() + self.options.lease_s
        while time.monotonic() < until_s:
            await asyncio.sleep(self.options.renew_s)
            asked_s = time.monotonic()
            with suppress(Unavailable):  # the lease may outlast it
                if not await self._ledger.renew(claim, self.options.lease_s):
                    return
                until_s = asked_s + self.options.lease_s

    async def _do(self, claim: Claim) -> PartResult:
        if claim.kind is PartKind.PLAN:
            return await self._plan(claim)
        name = object_name(claim)
        if claim.kind is PartKind.FINISH:
            await self._objects.put_lines(name, manifest_lines(self._ledger, claim.job))
            return PartResult(name)
        answers = await self._work.answer(claim.job, claim.spec)
        await self._objects.put(name, answers.content)
        return PartResult(name, answers.rows, answers.bad_rows, summary=answers.summary)

    async def _plan(self, claim: Claim) -> PartResult:
        """Pin the version, and add the parts that no earlier planner has added."""
        job = claim.job
        if not job.model:
            pinned = await self._ledger.pin(claim, *await self._work.resolve(job))
            if pinned is None:
                raise LeaseLost
            job = pinned
        number, specs = 0, list[Mapping[str, Any]]()
        async for spec in self._work.plan(job):
            number += 1
            if number > job.parts:
                specs.append(spec)
            if len(specs) == PARTS_AT_ONCE:
                await self._add(claim, specs, number)
                specs = []
        if number < job.parts:
            raise Internal(f"the plan of job {job.id} has {number} parts now, and had {job.parts} before")
        if specs:
            await self._add(claim, specs, number)
        return PartResult()

    async def _add(self, claim: Claim, specs: list[Mapping[str, Any]], last: int) -> None:
        if not await self._ledger.add_parts(claim, specs, last - len(specs) + 1):
            raise LeaseLost
        await self._ledger.check_deadline(claim.job.id)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
