"""Kills workers at named points, and looks for rows that were lost, doubled or mixed.

    python -m tests.integration.jobs.kills sqlite postgres --kills 1000

Three processes work off jobs, in an empty ledger and a folder of objects. Each carries a bomb: at its point it ends
itself by SIGKILL, or stops itself by SIGSTOP and is continued after its lease has run out. The exit status is 1 if a
row was lost, doubled or mixed, or if a point was never reached in 200 kills; fewer may miss one by chance.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import event

from jobs.ledger import Claim, Job, JobState, Ledger, LedgerLimits, NewJob, PartKind, PartResult
from jobs.ledger.database import database
from jobs.objects import Objects
from jobs.work import Answers
from jobs.worker import PartWorker, WorkerOptions
from tests.integration.jobs.doubling import Doubling, document, faults_of
from tests.integration.postgres import postgres_server
from triptych.errors import Unavailable

WORKERS: Final = 3
LEASE_S: Final = 1.0
PARTS, ROWS = 12, 3
LIVE_JOBS = 6
ENOUGH_KILLS = 200  # to reach each point
POINTS: Final = (
    "planning",  # some parts are added, and others are not
    "claimed",  # the part is leased, and nothing done
    "working",  # half way
    "before-put",  # the answers are made
    "after-put",  # the object is written, and not committed
    "in-commit",  # the statements of the commit are made, in a transaction that is open
    "committed",  # the part is committed, and the worker does not know yet
    "finishing",  # the manifest is written, and not committed
)
RARE: Final = ("planning", "finishing")  # once a job
KINDS: Final = ("lost", "doubled", "mixed")
SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
# Every try of a part may meet a bomb here, so none is the last one.
LIMITS: Final = LedgerLimits(attempts=1_000_000, backoff_s=0.01, max_backoff_s=0.1)


class Bomb:
    """Ends or stops this process at one point, after some passes: `POINT:SIGNAL:PASSES`."""

    def __init__(self, text: str) -> None:
        self.point, name, passes = text.split(":")
        self.signal, self.passes = SIGNALS[name], int(passes)

    def at(self, point: str) -> None:
        if point != self.point:
            return
        self.passes -= 1
        if self.passes < 0:
            self.point = ""  # one bomb, one bang
            os.kill(os.getpid(), self.signal)


class BombedLedger(Ledger):
    """A ledger with the points around its claims and commits."""

    bomb: Bomb
    committing: Claim | None = None

    async def claim(self, worker: str, lease_s: float, job_id: str | None = None) -> Claim | None:
        claim = await super().claim(worker, lease_s, job_id)
        if claim is not None and claim.kind is PartKind.ROWS:
            self.bomb.at("claimed")
        return claim

    async def add_parts(self, claim: Claim, specs: Any, first: int) -> bool:
        added = await super().add_parts(claim, specs, first)
        self.bomb.at("planning")
        return added

    async def commit(self, claim: Claim, result: PartResult) -> bool:
        if claim.kind is PartKind.FINISH:
            self.bomb.at("finishing")
        self.committing = claim
        try:
            return await super().commit(claim, result)
        finally:
            self.committing = None
            self.bomb.at("committed")

    def before_commit(self, _connection: Any) -> None:
        if self.committing is not None:
            self.bomb.at("in-commit")


class BombedWork(Doubling):
    """Work with a point in its middle."""

    def __init__(self, bomb: Bomb) -> None:
        super().__init__()
        self.bomb = bomb

    async def resolve(self, job: Job) -> tuple[str, int]:
        return "doubling", random.randrange(1, 1_000_000)  # each planner sees another version

    async def answer(self, job: Job, spec: Mapping[str, Any]) -> Answers:
        self.bomb.at("working")
        await asyncio.sleep(0.01)
        return await super().answer(job, spec)


class BombedObjects(Objects):
    """A store with a point on either side of a write."""

    bomb: Bomb

    async def put(self, name: str, content: bytes) -> None:
        self.bomb.at("before-put")
        await super().put(name, content)
        self.bomb.at("after-put")


async def work(url: str, folder: str, bomb: Bomb) -> None:
    """Work until SIGTERM."""
    ledger, objects = BombedLedger(database(url), LIMITS), BombedObjects(folder)
    ledger.bomb = objects.bomb = bomb
    event.listen(ledger._database.engine.sync_engine, "commit", ledger.before_commit)
    options = WorkerOptions(lease_s=LEASE_S, renew_s=0.2, idle_s=0.02, parallel=2)
    worker = PartWorker(ledger, objects, BombedWork(bomb), options)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()
    await ledger.close()


@dataclass
class Processes:
    """The workers. This process has no thread and no loop, so it may fork: a worker starts within milliseconds."""

    url: str
    folder: str
    chance: random.Random
    running: dict[int, str] = field(default_factory=dict)  # the bomb, by process
    stopped: dict[int, float] = field(default_factory=dict)  # when to continue it, by process
    late: dict[int, float] = field(default_factory=dict)  # when to end it in order, by process
    ending: set[int] = field(default_factory=set)
    bangs: Counter[str] = field(default_factory=Counter)

    def turn(self) -> None:
        """Start what is missing, note what has ended, and continue what has been stopped for longer than a lease."""
        while len(self.running) < WORKERS:
            point, kind = POINTS[sum(self.bangs.values()) % len(POINTS)], self.chance.choice(list(SIGNALS))
            passes = 0 if point in RARE else self.chance.randrange(4)
            bomb = f"{point}:{kind}:{passes}"
            self.running[in_child(partial(work, self.url, self.folder, Bomb(bomb)))] = bomb
        for process, bomb in list(self.running.items()):
            if process not in self.stopped:
                self._look(process, *bomb.split(":")[:2])
        for process in due(self.stopped):
            os.kill(process, signal.SIGCONT)  # it commits too late, beside its successor
            del self.running[process]
            self.late[process] = time.monotonic() + LEASE_S / 2
        for process in due(self.late):
            os.kill(process, signal.SIGTERM)
            self.ending.add(process)
        for process in list(self.ending):
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                self.ending.remove(process)
            if status:
                sys.exit(f"a worker that was to end in order ended with status {status}")
        time.sleep(0.005)

    def _look(self, process: int, point: str, kind: str) -> None:
        found, status = os.waitpid(process, os.WNOHANG | os.WUNTRACED)
        if not found:
            return
        if os.WIFSTOPPED(status):
            self.stopped[process] = time.monotonic() + 1.3 * LEASE_S
        elif os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            del self.running[process]
        else:
            sys.exit(f"a worker ended by itself with status {status}")
        self.bangs[f"{point} {kind}"] += 1

    def end_all(self, others: set[int]) -> None:
        for process in {*self.running, *self.late, *self.ending, *others}:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def due(times: dict[int, float]) -> list[int]:
    """Processes whose time has come; they are removed."""
    found = [process for process, until_s in times.items() if time.monotonic() >= until_s]
    for process in found:
        del times[process]
    return found


def in_child(call: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run a coroutine in a new process. Return its id."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    try:
        asyncio.run(call())
        sys.stdout.flush()
    except SystemExit as error:
        sys.stdout.flush()
        os._exit(int(str(error)))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


async def feed(url: str) -> None:
    """Submit jobs so that there is always something to do, each of them twice, until SIGTERM."""
    ended, ledger, number = asyncio.Event(), await Ledger.open(url, LIMITS), 0
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    while not ended.is_set():
        try:
            live, _ = await ledger.list_jobs(states=[JobState.PLANNING, JobState.RUNNING])
            if len(live) < LIVE_JOBS:
                new = NewJob(f"job-{number}", document(PARTS, ROWS, number * PARTS * ROWS))
                assert (await ledger.submit(new)).id == (await ledger.submit(new)).id
                number += 1
                continue
        except Unavailable:  # a worker was stopped inside a transaction; submitting again is the same job
            continue
        await asyncio.sleep(0.05)
    await ledger.close()


async def wait_and_check(url: str, folder: str) -> None:
    """Wait for all jobs, and print what is wrong with their results. Exits with 1 if something is."""
    ledger, objects = await Ledger.open(url, LIMITS), Objects(folder)
    faults, rows, late = list[str](), 0, 0
    jobs, token = await ledger.list_jobs(1_000)
    while token:
        page, token = await ledger.list_jobs(1_000, token)
        jobs += page
    for listed in jobs:
        job = listed
        while not (job.has_ended and job.document):
            with suppress(Unavailable):
                job = await ledger.wait(job.id, job.revision, 0.0 if job.has_ended else 60.0)
        if job.state is JobState.SUCCEEDED:
            faults += await faults_of(ledger, objects, job)
            rows += job.rows
            late += len(await objects.sizes(f"jobs/{job.id}/parts")) - job.parts
        else:
            faults.append(f"lost: job {job.request_id} is {job.state}: {job.error}")
    missing = {f"job-{number}" for number in range(len(jobs))} - {job.request_id for job in jobs}
    faults += [f"lost: {request_id}" for request_id in missing]
    await ledger.close()
    print("".join(f"{fault}\n" for fault in faults[:20]), end="")
    kinds = ", ".join(f"{kind} {sum(fault.startswith(kind) for fault in faults)}" for kind in KINDS)
    print(f"{len(jobs)} jobs, {rows} rows: {kinds}; {late} objects of claims that never committed")
    if faults:
        raise SystemExit(1)


def run(url: str, folder: str, kills: int, seed: int) -> int:
    """Kill `kills` times, and check all results. Return the exit status."""
    processes, started_s = Processes(url, folder, random.Random(seed)), time.monotonic()
    os.waitpid(in_child(partial(create, url)), 0)
    feeder, status = in_child(partial(feed, url)), 0
    helpers = {feeder}
    try:
        while processes.bangs.total() < kills:
            processes.turn()
        os.kill(feeder, signal.SIGTERM)
        checker = in_child(partial(wait_and_check, url, folder))
        helpers.add(checker)
        for child in (feeder, checker):
            while not (found := os.waitpid(child, os.WNOHANG))[0]:
                processes.turn()
            helpers.remove(child)
            status |= os.waitstatus_to_exitcode(found[1])
    finally:
        processes.end_all(helpers)
    bangs = processes.bangs
    print(f"{bangs.total()} times in {time.monotonic() - started_s:.0f} s: {dict(sorted(bangs.items()))}")
    missing = [point for point in POINTS if not any(bang.startswith(f"{point} ") for bang in bangs)]
    print("".join(f"never reached: {point}\n" for point in missing), end="")
    return status or int(bool(missing) and bangs.total() >= ENOUGH_KILLS)


async def create(url: str) -> None:
    """Create the tables."""
    await (await Ledger.open(url)).close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("ledgers", nargs="+", choices=LEDGERS)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no worker outlives this process
    status = 0
    for name in options.ledgers:
        with tempfile.TemporaryDirectory() as folder, LEDGERS[name](folder) as url:
            print(f"{name}, {WORKERS} workers:", flush=True)
            status |= run(url, f"{folder}/objects", options.kills, options.seed)
    return status


@contextmanager
def sqlite(folder: str) -> Iterator[str]:
    yield f"sqlite:///{folder}/ledger.db"


@contextmanager
def postgres(_folder: str) -> Iterator[str]:
    with postgres_server() as server:
        yield server.new_database("kills")


LEDGERS: Final = {"sqlite": sqlite, "postgres": postgres}


if __name__ == "__main__":
    sys.exit(main())
