"""The task of a part on a machine of an engine: it reads, asks and writes as a run on one machine does."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from jobs.batch.engines.engine import AnsweredPart, PlannedPart
from jobs.batch.errors import BatchError
from jobs.batch.folder import RunFolder
from jobs.batch.model import PinnedModel, pin
from jobs.batch.part_work import PartRows, PartWork
from jobs.durable_files import write_whole
from jobs.readers.dataset import PartReader
from jobs.readers.parts import PartSpec
from triptych_client import Ask


@dataclass(frozen=True)
class _Opened:
    run: str
    ask: Ask
    work: PartWork


_opened: _Opened | None = None  # what the parts of a run share in this process
_opening = threading.Lock()


@dataclass(frozen=True)
class PartTask:
    """Answers parts of a run into its folder, which all machines share. `run` is the id of the run.

    Each attempt at a part has files of its own. Its last one, with the counts, says that the others are whole.
    """

    run: str
    folder: RunFolder
    model: PinnedModel
    reader: PartReader
    answers: Any  # pyarrow.Schema

    def __call__(self, part: PlannedPart) -> AnsweredPart:
        begun_s = time.monotonic()
        work, name = self._work(), f"{part.number}.{secrets.token_hex(8)}"
        records, errors = self.folder.records_file(name), self.folder.errors_file(name)
        try:
            counts = work.do(PartSpec.from_text(part.spec), records, errors)
        except BaseException:
            with suppress(OSError):  # of a disk that is full or away
                errors.unlink(missing_ok=True)
            raise
        seconds = round(time.monotonic() - begun_s, 3)
        answered = AnsweredPart(part.number, name, counts.rows, counts.bad_rows, seconds, counts.summary)
        write_whole(self.folder.counts_file(name), answered.as_json())
        return answered

    def _work(self) -> PartWork:
        """The work of this process, which is opened once. Raises `BatchError` and `Interrupted`."""
        global _opened
        with _opening:
            if _opened is None or _opened.run != self.run:
                if _opened is not None:
                    _opened.ask.close()
                _opened = None
                _opened = self._open()
            return _opened.work

    def _open(self) -> _Opened:
        machine = socket.gethostname()
        if not self.folder.parts.is_dir():
            text = f"{self.folder.parts} of the run is not on machine {machine}"
            raise BatchError(f"{text}; want a folder that all machines of the engine share")
        if (home := self.model.home).repository and not os.path.isdir(home.repository):
            text = f"home.repository: {home.repository} is not on machine {machine}"
            raise BatchError(f"{text}; want a folder that all machines of the engine have")
        found = pin(self.model.document, home, self.model.version).info.contract
        if found != (wanted := self.model.info.contract):
            text = f"the contract of version {self.model.version} is another one on machine {machine}"
            raise BatchError(f"{text}: want sha256 {wanted[:12]}, got {found[:12]}")
        names = self.model.gathered.schema(self.reader.schema).names
        ask = self.model.ask(names, keeps_inputs=bool(self.model.input_columns(self.answers.names)))
        rows = PartRows(self.reader, self.model.gathered, ask, self.model.info.summary)
        return _Opened(self.run, ask, PartWork(rows, self.answers))
