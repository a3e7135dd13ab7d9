"""One run of a batch on this machine: plan, answer part by part, publish. The same call goes on after any end.

The ledger says which parts are committed, the lock of the folder that no other process works on the run.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import URL

from jobs.batch.dataset import answers_schema, open_dataset, sources_of
from jobs.batch.destination import Destination
from jobs.batch.document import BatchDocument
from jobs.batch.errors import BatchError, Interrupted
from jobs.batch.folder import RunFolder
from jobs.batch.manifest import Manifest, now_text, time_text
from jobs.batch.model import PinnedModel, pin
from jobs.batch.options import RunOptions
from jobs.batch.output import CommittedPart
from jobs.batch.part_work import PartRows, PartWork, RunStopped
from jobs.batch.progress import RunProgress
from jobs.ledger import Claim, Job, JobState, Ledger, LedgerLimits, NewJob, PartKind, PartResult, PartState
from jobs.readers.dataset import Dataset
from jobs.readers.errors import SourceError, SourceUnavailable
from jobs.readers.parts import PartSpec
from jobs.summary import merge, values_of
from triptych.errors import InvalidRequest, TriptychError

REQUEST_ID: Final = "run"
WORKER: Final = "batch"
LEASE_S: Final = 60.0  # the lock of the folder keeps other processes out; a lease here only orders the tasks
RENEW_S: Final = 15.0
PROGRESS_S: Final = 0.5
PARTS_AT_ONCE: Final = 500  # added to the ledger
LIMITS: Final = LedgerLimits(attempts=1_000_000)  # a run may be killed as often as it likes


class BatchRun:
    """Makes one run. `on_progress` is called twice a second, and at its end."""

    def __init__(
        self,
        document: BatchDocument,
        destination: Destination,
        options: RunOptions,
        on_progress: Callable[[RunProgress], None],
    ) -> None:
        self._document, self._destination, self._options = document, destination, options
        self._folder: RunFolder = destination.folder
        self._on_progress, self.progress = on_progress, RunProgress()
        self._is_stopping = False
        self._goes_on = False  # whether a failure leaves something to go on with
        self._work: PartWork | None = None
        self._close: Callable[[], None] = lambda: None

    def stop(self) -> None:
        """End soon, with `Interrupted`: parts that have begun are given back."""
        self._is_stopping = True
        if self._work is not None:
            self._work.stop()
            self._close()

    async def run(self) -> Manifest:
        """Make the run, or go on with it. Raises `BatchError`, `Interrupted` and what the destination raises."""
        with self._folder.locked():
            self._goes_on = self._folder.ledger.exists()
            try:
                manifest = await self._locked_run()
            except Interrupted:
                raise
            except BatchError:
                if not self._goes_on:
                    self._folder.remove()
                raise
            self._folder.remove()
            return manifest

    async def _locked_run(self) -> Manifest:
        await self._destination.check(replace=self._options.replace)
        ledger, job = await self._open()
        try:
            await _release_all(ledger, job)
            model = await asyncio.to_thread(pin, self._document, self._document.home, job.version or None)
            return await self._made(ledger, job, model)
        except TriptychError as error:  # of the ledger
            raise Interrupted(str(error)) from error
        finally:
            await ledger.close()

    async def _open(self) -> tuple[Ledger, Job]:
        """The ledger with the job of this document. A run that failed begins anew."""
        if self._options.restart:
            self._folder.clear()
        while True:
            ledger = await self._opened_ledger()
            try:
                job = await ledger.submit(NewJob(REQUEST_ID, self._document.canonical))
            except InvalidRequest:
                (job, *_), _ = await ledger.list_jobs()
                await ledger.close()
                if job.has_ended:  # it failed, and the document was changed for that
                    self._folder.clear()
                    continue
                text = f"a run of another document has begun in {self._folder.path}"
                raise BatchError(f"{text}; --restart drops it and begins anew") from None
            if not job.has_ended:
                return ledger, job
            if job.state is JobState.SUCCEEDED and await self._destination.manifest(job.id) is not None:
                return ledger, job
            await ledger.close()
            self._folder.clear()

    async def _opened_ledger(self) -> Ledger:
        url = URL.create("sqlite", database=str(self._folder.ledger)).render_as_string()
        try:
            return await Ledger.open(url, LIMITS, merge=merge)
        except ValueError as error:
            raise BatchError(str(error)) from None

    async def _made(self, ledger: Ledger, job: Job, model: PinnedModel) -> Manifest:
        if (done := await self._destination.manifest(job.id)) is not None:  # a kill behind the last step
            return done
        dataset = await asyncio.to_thread(open_dataset, model, self._options.policy)
        names = model.gathered.schema(dataset.schema).names
        ask = model.ask(names, keeps_inputs=self._document.write.inputs)
        try:
            answers = await asyncio.to_thread(answers_schema, dataset, model, ask)
            await self._destination.check_columns(answers)
            plan = await self._planned(ledger, job, model, dataset)
            self._goes_on = True
            self._folder.parts.mkdir(exist_ok=True)
            rows = PartRows(dataset, model.gathered, ask, model.info.summary, self._count)
            self._work = PartWork(rows, answers)
            self._close = ask.close
            job = await self._answered(ledger, await ledger.get(job.id), plan)
            return await self._finished(ledger, job, model, answers, plan)
        finally:
            ask.close()

    # The plan: under the claim of the part of kind `plan`.

    async def _planned(self, ledger: Ledger, job: Job, model: PinnedModel, dataset: Dataset) -> Mapping[str, Any]:
        """Facts of the plan, which is made if it is not there. Raises `BatchError` if it does not hold any more."""
        if job.is_planned:
            (part,) = await ledger.parts(job.id, limit=1)
            plan = part.result.summary if part.result is not None and part.result.summary is not None else {}
        else:
            plan = await self._plan(ledger, job, model, dataset)
        if plan["contract"] != model.info.contract:
            text = f"the contract of version {model.version} is another one than at the start of the run"
            raise BatchError(f"{text}; --restart begins anew")
        if plan["schema"] != _schema_text(dataset.schema):
            raise BatchError(
                "the columns of the dataset have changed since the start of the run; --restart begins anew"
            )
        return plan

    async def _plan(self, ledger: Ledger, job: Job, model: PinnedModel, dataset: Dataset) -> Mapping[str, Any]:
        claim = await ledger.claim(WORKER, LEASE_S, job.id)
        if claim is None or claim.kind is not PartKind.PLAN:
            raise BatchError(f"the ledger of the run cannot be used: {self._folder.ledger}; --restart begins anew")
        await ledger.pin(claim, model.info.name, model.version)
        count, size_bytes, rows = 0, 0, 0
        known, parts = claim.job.parts, dataset.parts()
        try:
            while some := await asyncio.to_thread(_some, parts):
                new = [part.as_json() for number, part in enumerate(some, count + 1) if number > known]
                if new and not await ledger.add_parts(claim, new, count + len(some) - len(new) + 1):
                    raise BatchError(f"the lease of the plan ran out; {self._folder.ledger} is used by another process")
                count += len(some)
                size_bytes += sum(part.size_bytes for part in some)
                rows += sum(part.rows or 0 for part in some)
                if self._is_stopping or not await ledger.renew(claim, LEASE_S):
                    raise Interrupted("stopped while the parts were planned")
        except SourceUnavailable as error:
            raise Interrupted(str(error)) from error
        except SourceError as error:
            await ledger.fail(claim, str(error), final=True)
            self._goes_on = False
            raise BatchError(str(error)) from error
        plan = {
            "contract": model.info.contract,
            "schema": _schema_text(dataset.schema),
            "rows": rows,
            "sources": sources_of(dataset, size_bytes),
        }
        await ledger.commit(claim, PartResult(summary=plan))
        return plan

    # The rows.

    async def _answered(self, ledger: Ledger, job: Job, plan: Mapping[str, Any]) -> Job:
        """The job with all parts committed."""
        self.progress = RunProgress(
            parts=job.parts,
            rows=plan["rows"],
            committed_parts=job.committed,
            committed_rows=job.rows + job.bad_rows,
            bad_rows=job.bad_rows,
            resumed_rows=job.rows + job.bad_rows,
        )
        started_s = time.monotonic()
        tasks = [asyncio.create_task(self._take_parts(ledger, job.id)) for _ in range(self._document.parallel_parts)]
        try:
            while pending := [task for task in tasks if not task.done()]:
                self.progress.seconds = time.monotonic() - started_s
                self._on_progress(self.progress)
                done, _ = await asyncio.wait(pending, timeout=PROGRESS_S, return_when=asyncio.FIRST_EXCEPTION)
                if any(task.exception() for task in done):
                    self.stop()
            failures = [error for task in tasks if (error := task.exception()) is not None]
            self.progress.seconds = time.monotonic() - started_s
            self._on_progress(self.progress)
            _raise_worst(failures)
        except BaseException:
            self.stop()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return await ledger.get(job.id)

    async def _take_parts(self, ledger: Ledger, job_id: str) -> None:
        """Answer parts as long as there are any."""
        while not self._is_stopping:
            claim = await ledger.claim(WORKER, LEASE_S, job_id)
            if claim is None:
                return
            if claim.kind is PartKind.FINISH:
                await ledger.release(claim)
                return
            await self._take(ledger, claim)
        raise RunStopped

    async def _take(self, ledger: Ledger, claim: Claim) -> None:
        assert self._work is not None
        begun_s = time.monotonic()
        records, errors = _files(self._folder, claim.number, claim.fence)
        renewing = asyncio.create_task(_renew(ledger, claim))
        try:
            counts = await asyncio.to_thread(self._work.do, PartSpec.from_json(claim.spec), records, errors)
        except Interrupted:
            await ledger.release(claim)
            raise
        except BatchError as error:
            await ledger.fail(claim, str(error), final=True)
            self._goes_on = False
            raise
        except BaseException:
            await ledger.release(claim)
            raise
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
        result = PartResult(
            records.name,
            counts.rows,
            counts.bad_rows,
            time.monotonic() - begun_s,
            counts.summary,
        )
        if await ledger.commit(claim, result):
            self.progress.committed_parts += 1
            self.progress.committed_rows += counts.rows + counts.bad_rows
            self.progress.bad_rows += counts.bad_rows

    def _count(self, rows: int) -> None:
        self.progress.asked += rows

    # The end: under the claim of the part of kind `finish`.

    async def _finished(
        self, ledger: Ledger, job: Job, model: PinnedModel, answers: Any, plan: Mapping[str, Any]
    ) -> Manifest:
        claim = await ledger.claim(WORKER, LEASE_S, job.id)
        if claim is None or claim.kind is not PartKind.FINISH:
            raise Interrupted("not all parts are committed")
        manifest = Manifest(
            run=job.id,
            model=model.info.name,
            version=model.version,
            contract=model.info.contract,
            rows=job.rows,
            bad_rows=job.bad_rows,
            parts=job.parts,
            started=time_text(job.created_s),
            ended=now_text(),
            asked_seconds=round(job.seconds, 3),
            summary=values_of(job.summary),
            sources=plan["sources"],
            inputs=tuple(model.input_columns(answers.names)) if self._document.write.inputs else (),
            document=self._document.model_dump(mode="json", by_alias=True),
        )
        parts = [part async for part in _committed(ledger, job.id, self._folder)]
        has_errors = self._document.on_bad_rows == "keep"
        renewing = asyncio.create_task(_renew(ledger, claim))
        try:
            await self._destination.publish(parts, answers, manifest, has_errors=has_errors)
        except OSError as error:
            await ledger.release(claim)
            raise Interrupted(f"the output cannot be written: {error}") from error
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
        await ledger.commit(claim, PartResult())
        return manifest


def _some(parts: Iterator[PartSpec]) -> Sequence[PartSpec]:
    return list(islice(parts, PARTS_AT_ONCE))


def _schema_text(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


async def _release_all(ledger: Ledger, job: Job) -> None:
    """Give back what a process had claimed that has ended: the lock says that there is no other."""
    after = -1
    while parts := await ledger.parts(job.id, after):
        for part in parts:
            if part.state is PartState.LEASED:
                await ledger.release(Claim(job, part.number, part.kind, part.fence, part.attempts))
        after = parts[-1].number


def _files(folder: RunFolder, number: int, fence: int) -> tuple[Path, Path]:
    """The files of a part: its records and its errors."""
    name = f"{number}.{fence}"
    return folder.records_file(name), folder.errors_file(name)


async def _committed(ledger: Ledger, job_id: str, folder: RunFolder) -> Any:
    """Committed parts in the order of their numbers."""
    after = 0
    while parts := await ledger.parts(job_id, after):
        for part in parts:
            if part.kind is PartKind.ROWS and part.result is not None:
                files = _files(folder, part.number, part.fence)
                yield CommittedPart(part.number, *files, part.result.rows, part.result.bad_rows)
        after = parts[-1].number


async def _renew(ledger: Ledger, claim: Claim) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        await ledger.renew(claim, LEASE_S)


def _raise_worst(failures: Sequence[BaseException]) -> None:
    """Raise the failure that says most: one of this program, of the data, of the world, or the stop."""
    for error in failures:
        if not isinstance(error, (BatchError, RunStopped)):
            raise error
    for error in sorted(failures, key=lambda error: (isinstance(error, RunStopped), isinstance(error, Interrupted))):
        raise Interrupted("stopped") if isinstance(error, RunStopped) else error
