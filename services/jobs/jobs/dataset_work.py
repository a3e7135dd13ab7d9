"""The work on jobs that ask a dataset: the readers, and the client of preprocess."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, ParamSpec, TypeVar

from jobs.batch.dataset import answers_schema, open_dataset
from jobs.batch.document import DocumentError, HomeOptions, parse_job
from jobs.batch.errors import BatchError, Interrupted
from jobs.batch.model import pin
from jobs.batch.part_work import PartRows, RunStopped
from jobs.ledger import Job
from jobs.readers.dataset import Dataset
from jobs.readers.errors import SourceError, SourceUnavailable
from jobs.readers.parts import PartSpec
from jobs.readers.sources import SourcePolicy, UploadFiles
from jobs.work import Answers
from jobs.writers.ipc import IpcWriter
from triptych.errors import InvalidRequest, Unavailable
from triptych_client import Ask

OPEN_JOBS: Final = 16  # whose datasets and connections are kept
PARTS_AT_ONCE: Final = 1_000

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class OpenJob:
    """State that the parts of a job share."""

    dataset: Dataset
    rows: PartRows
    ask: Ask
    schema: Any  # of the answers


class DatasetWork:
    """Reads the rows of a job's document and asks them. It implements `jobs.work.Work`.

    `home` is preprocess, `policy` says what documents may read, `uploads` are read as `upload://name`.
    """

    def __init__(self, home: HomeOptions, policy: SourcePolicy, uploads: UploadFiles) -> None:
        self._home, self._policy, self._uploads = home, policy, uploads
        self._open: OrderedDict[str, OpenJob] = OrderedDict()  # the last used last
        self._lock = threading.Lock()

    def check(self, document: str) -> str:
        """Refuse a document with all its faults, and the line of each. Returns the name of its model."""
        try:
            return parse_job(document).model
        except DocumentError as error:
            raise InvalidRequest(str(error)) from error

    async def resolve(self, job: Job) -> tuple[str, int]:
        """Model and version by the document."""
        model = await _in_thread(lambda: pin(parse_job(job.document), self._home))
        return model.info.name, model.version

    async def plan(self, job: Job) -> AsyncIterator[Mapping[str, Any]]:
        """The spec of each part."""
        opened = await _in_thread(self._opened, job)
        parts = opened.dataset.parts()
        while some := await _in_thread(_some, parts):
            for part in some:
                yield part.as_json()

    async def answer(self, job: Job, spec: Mapping[str, Any]) -> Answers:
        """The answers of one part, as a stream of Arrow IPC."""
        opened = await _in_thread(self._opened, job)
        rows, writer = opened.rows.fork(), IpcWriter(opened.schema)
        try:
            summary = await _in_thread(rows.answer, PartSpec.from_json(spec), writer)
            content = await asyncio.to_thread(writer.content)
            return Answers(content, writer.rows, writer.bad_rows, summary)
        except BaseException:
            rows.stop()  # the thread ends with the batch that it asks
            raise

    def close(self) -> None:
        """Close all connections."""
        while self._open:
            self._open.popitem()[1].ask.close()

    def _opened(self, job: Job) -> OpenJob:
        with self._lock:
            found = self._open.get(job.id)
        if found is None:
            found = self._made(job)  # without the lock: its files may be slow, and other jobs do not wait for them
        with self._lock:
            kept = self._open.setdefault(job.id, found)
            self._open.move_to_end(job.id)
            if len(self._open) > OPEN_JOBS:  # not closed: a part may still be in work
                self._open.popitem(last=False)
        if kept is not found:
            found.ask.close()
        return kept

    def _made(self, job: Job) -> OpenJob:
        model = pin(parse_job(job.document), self._home, job.version)
        dataset = open_dataset(model, self._policy, self._uploads)
        ask = model.ask(model.gathered.schema(dataset.schema).names)
        try:
            rows = PartRows(dataset, model.gathered, ask, model.info.summary)
            return OpenJob(dataset, rows, ask, answers_schema(dataset, model, ask))
        except BaseException:
            ask.close()
            raise


def _some(parts: Iterator[PartSpec]) -> list[PartSpec]:
    return list(islice(parts, PARTS_AT_ONCE))


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of work in a thread, with errors in the words of `Work`."""
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except (Interrupted, SourceUnavailable, RunStopped) as error:
        raise Unavailable(str(error) or "stopped") from error
    except (BatchError, SourceError, DocumentError) as error:
        raise InvalidRequest(str(error)) from error
