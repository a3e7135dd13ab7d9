"""One run of a batch on an engine: plan, let it answer the parts, publish. The same call goes on after any end.

The driver plans and publishes as a run on one machine does. What tells the parts that are answered is not a ledger but
the files of counts that the workers write last.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jobs.batch.dataset import answers_schema, open_dataset, sources_of
from jobs.batch.destination import Destination
from jobs.batch.document import BatchDocument, HomeOptions, TlsFiles
from jobs.batch.engines.engine import AnsweredPart, Engine, PlannedPart
from jobs.batch.engines.part_task import PartTask
from jobs.batch.errors import BatchError, Interrupted, by_source
from jobs.batch.folder import RunFolder
from jobs.batch.manifest import Manifest, now_text
from jobs.batch.model import PinnedModel, pin
from jobs.batch.options import RunOptions
from jobs.batch.output import CommittedPart
from jobs.batch.progress import RunProgress
from jobs.durable_files import write_whole
from jobs.readers.dataset import Dataset
from jobs.readers.errors import SourceError
from jobs.readers.parts import PartSpec
from jobs.summary import merge, values_of
from triptych.contract.reading.files import printable_path


@dataclass(frozen=True)
class RunFacts:
    """Facts that hold from the start of a run to its end. `plan` is the digest of its parts."""

    run: str
    document: str
    version: int
    contract: str
    plan: str
    started: str


class EngineRun:
    """Makes one run. `on_progress` is called for each part that is answered."""

    def __init__(
        self,
        document: BatchDocument,
        destination: Destination,
        engine: Engine,
        options: RunOptions,
        on_progress: Callable[[RunProgress], None],
    ) -> None:
        self._document, self._destination, self._engine = document, destination, engine
        self._folder, self._options = destination.folder, options
        self._on_progress, self.progress = on_progress, RunProgress()
        self._is_stopping = False

    def stop(self) -> None:
        """End soon, with `Interrupted`."""
        self._is_stopping = True
        self._engine.stop()

    async def run(self) -> Manifest:
        """Make the run, or go on with it. Raises `BatchError`, `Interrupted` and what the destination raises."""
        with self._folder.locked():
            if self._options.restart:
                self._folder.clear()
            try:
                manifest = await self._locked_run()
            except Exception as error:
                if not self._folder.has_begun:
                    self._folder.remove()
                if self._is_stopping:  # an engine that is stopped ends in many ways
                    raise Interrupted("stopped") from error
                raise
            self._folder.remove()
            return manifest

    async def _locked_run(self) -> Manifest:
        await self._destination.check(replace=self._options.replace)
        begun = self._begun()
        if begun is not None and (done := await self._destination.manifest(begun.run)) is not None:
            return done  # a kill behind the last step
        model = await asyncio.to_thread(
            pin, self._document, _on_workers(self._document.home), begun.version if begun else None
        )
        dataset = await asyncio.to_thread(open_dataset, model, self._options.policy)
        with model.ask(model.gathered.schema(dataset.schema).names, keeps_inputs=self._document.write.inputs) as ask:
            answers = await asyncio.to_thread(answers_schema, dataset, model, ask)
        await self._destination.check_columns(answers)
        parts = await asyncio.to_thread(_planned, dataset)
        plan = _digest(parts)
        if begun is not None and begun.plan != plan:  # of other files: with the version that an alias has now
            self._folder.clear()
            return await self._locked_run()
        facts = self._agreed(begun, model, plan)
        self._folder = replace(self._folder, run=facts.run)
        self._folder.parts.mkdir(exist_ok=True)
        task = PartTask(facts.run, self._folder, model, dataset.part_reader(), answers)
        try:
            answered = await asyncio.to_thread(self._answered, task, parts)
        except BatchError as error:
            if not isinstance(error, Interrupted) and not self._is_stopping:
                self._folder.clear()  # the command begins anew: the document or its data have to change
            raise
        return await self._published(facts, model, dataset, parts, answered, answers)

    # The start.

    def _begun(self) -> RunFacts | None:
        """Facts of a run that has begun. Raises `BatchError` for one of another document."""
        try:
            facts = RunFacts(**json.loads(self._folder.facts.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            name = printable_path(self._folder.facts)
            raise BatchError(f"{name} cannot be read: {error}; --restart begins anew") from None
        if facts.document != self._document.canonical:
            text = f"a run of another document has begun in {printable_path(self._folder.path)}"
            raise BatchError(f"{text}; --restart drops it and begins anew")
        return facts

    def _agreed(self, begun: RunFacts | None, model: PinnedModel, plan: str) -> RunFacts:
        """The facts of the run, on disk. Raises `BatchError`."""
        if begun is not None:
            if begun.contract == model.info.contract:
                return begun
            text = f"the contract of version {model.version} is another one than at the start of the run"
            raise BatchError(f"{text}; --restart begins anew")
        self._folder.clear()
        run, document = secrets.token_hex(16), self._document.canonical
        facts = RunFacts(run, document, model.version, model.info.contract, plan, now_text())
        write_whole(self._folder.facts, json.dumps(asdict(facts)))
        return facts

    # The rows.

    def _answered(self, task: PartTask, parts: Sequence[PartSpec]) -> Mapping[int, AnsweredPart]:
        """All parts by their numbers, of which the engine answers those that are not there."""
        answered = _there(self._folder)
        done = sum(part.rows + part.bad_rows for part in answered.values())
        self.progress = RunProgress(
            parts=len(parts),
            rows=sum(part.rows or 0 for part in parts),
            committed_parts=len(answered),
            committed_rows=done,
            bad_rows=sum(part.bad_rows for part in answered.values()),
            resumed_rows=done,
        )
        self._on_progress(self.progress)
        missing = [
            PlannedPart(number, part.as_text()) for number, part in enumerate(parts, 1) if number not in answered
        ]
        if not missing:
            return answered
        started_s = time.monotonic()
        with closing(self._engine.answer(task, missing)) as more:
            for part in more:
                answered[part.number] = part
                self._count(part, time.monotonic() - started_s)
        if lost := [part.number for part in missing if part.number not in answered]:
            raise Interrupted(f"{self._engine.name} did not answer part {lost[0]}")
        return answered

    def _count(self, part: AnsweredPart, seconds: float) -> None:
        progress = self.progress
        progress.committed_parts += 1
        progress.committed_rows += part.rows + part.bad_rows
        progress.asked += part.rows + part.bad_rows
        progress.bad_rows += part.bad_rows
        progress.seconds = seconds
        self._on_progress(progress)

    # The end.

    async def _published(
        self,
        facts: RunFacts,
        model: PinnedModel,
        dataset: Dataset,
        parts: Sequence[PartSpec],
        answered: Mapping[int, AnsweredPart],
        answers: Any,
    ) -> Manifest:
        manifest = Manifest(
            run=facts.run,
            model=model.info.name,
            version=model.version,
            contract=model.info.contract,
            rows=sum(part.rows for part in answered.values()),
            bad_rows=sum(part.bad_rows for part in answered.values()),
            parts=len(parts),
            started=facts.started,
            ended=now_text(),
            asked_seconds=round(sum(part.seconds for part in answered.values()), 3),
            sources=sources_of(dataset, sum(part.size_bytes for part in parts)),
            inputs=tuple(model.input_columns(answers.names)) if self._document.write.inputs else (),
            document=self._document.model_dump(mode="json", by_alias=True),
            summary=values_of(_summary(answered.values())),
            engine=self._engine.name,
        )
        committed = [_committed(self._folder, answered[number]) for number in range(1, len(parts) + 1)]
        try:
            has_errors = self._document.on_bad_rows == "keep"
            await self._destination.publish(committed, answers, manifest, has_errors=has_errors)
        except OSError as error:
            raise Interrupted(f"the output cannot be written: {error}") from error
        return manifest


def _summary(parts: Iterable[AnsweredPart]) -> Mapping[str, Any] | None:
    merged: Mapping[str, Any] | None = None
    for part in parts:
        if part.summary is not None:
            merged = merge(merged, part.summary)
    return merged


def _planned(dataset: Dataset) -> Sequence[PartSpec]:
    try:
        return list(dataset.parts())
    except SourceError as error:
        raise by_source(error) from error


def _digest(parts: Iterable[PartSpec]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.as_text().encode() + b"\n")
    return digest.hexdigest()


def _there(folder: RunFolder) -> dict[int, AnsweredPart]:
    """Parts whose files are whole. Of several attempts at a part one is taken."""
    found: dict[int, AnsweredPart] = {}
    for file in sorted(folder.parts.glob(folder.counts_file("*").name)):
        try:
            part = AnsweredPart.from_json(file.read_bytes())
        except (OSError, ValueError, TypeError):
            continue  # not ours: a file of counts is renamed when it is whole
        found[part.number] = part
    return found


def _committed(folder: RunFolder, part: AnsweredPart) -> CommittedPart:
    """The files of a part. Raises `BatchError` if a worker wrote them elsewhere."""
    records = folder.records_file(part.name)
    if not records.exists():
        text = f"part {part.number} was written, but {printable_path(records)} is not on this machine"
        raise BatchError(f"{text}; want a folder that all machines of the engine share")
    return CommittedPart(part.number, records, folder.errors_file(part.name), part.rows, part.bad_rows)


def _on_workers(home: HomeOptions) -> HomeOptions:
    """The home for processes with another working directory. Each of them asks a folder of models by one thread."""
    changes: dict[str, Any] = {}
    if home.repository:
        changes = {"repository": str(Path(home.repository).absolute()), "in_flight": home.in_flight or 1}
    if home.tls is not None:
        files = {
            name: str(Path(path).absolute())
            for name in ("ca", "certificate", "key")
            if (path := getattr(home.tls, name))
        }
        changes["tls"] = TlsFiles(**{**home.tls.model_dump(), **files})
    return home.model_copy(update=changes)
