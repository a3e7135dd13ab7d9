"""Work of one part: read its rows, ask them, write its files."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jobs.batch.columns import GatheredColumns
from jobs.batch.errors import BatchError, Interrupted, by_source
from jobs.readers.dataset import place_in_file, places_in_files
from jobs.readers.errors import SourceError
from jobs.readers.parts import PartSpec, ReadBatch
from jobs.summary import PartSummary
from jobs.writers.part import PartWriter
from triptych_client import Ask, AskError, RefusedRow, RequestFailed


class RunStopped(Exception):
    """The run was told to stop."""


@dataclass(frozen=True)
class PartCounts:
    """Rows of a part that was written."""

    rows: int
    bad_rows: int
    summary: Mapping[str, Any] | None = None


class AnswerWriter(Protocol):
    """Takes the answers of a part. Files and rows are arrays: the place of each row in the dataset."""

    def write(self, answers: Any, files: Any, rows: Any) -> None:
        """Add answers of rows."""

    def write_bad(self, files: Any, rows: Any, codes: Sequence[str], texts: Sequence[str]) -> None:
        """Add rows that could not be read."""


class PartSource(Protocol):
    """Reads the rows of parts."""

    def read(self, part: PartSpec) -> Iterator[ReadBatch]:
        """The rows of a part. Raises `SourceError`."""


class PartRows:
    """Answers the rows of parts. Any thread may use it; `on_rows` is called with the rows of each answered batch."""

    def __init__(
        self,
        source: PartSource,
        gathered: GatheredColumns,
        ask: Ask,
        summary: Mapping[str, str],
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """`summary` has the operation of each output that is summarised."""
        self._source, self._gathered, self._ask = source, gathered, ask
        self._summary, self._on_rows = summary, on_rows
        self._is_stopping = threading.Event()

    def fork(self) -> PartRows:
        """The same for one part, which can be stopped by itself."""
        return PartRows(self._source, self._gathered, self._ask, self._summary, self._on_rows)

    def stop(self) -> None:
        """Let every part end with `RunStopped` at its next batch."""
        self._is_stopping.set()

    def answer(self, part: PartSpec, writer: AnswerWriter) -> Mapping[str, Any] | None:
        """Read, ask and write the rows of a part. Returns its summary, if there is any.

        Raises `BatchError` for what the same part will meet again, `Interrupted` and `RunStopped`.
        """
        asked: deque[ReadBatch] = deque()
        summary = PartSummary(self._summary)
        try:
            for answers in self._ask.over(self._batches(part, writer, asked)):
                batch = asked.popleft()
                writer.write(answers, *places_in_files(part, batch.rows))
                summary.add(answers)
                self._on_rows(len(batch.rows))
                self._check_stop()
            return summary.state
        except SourceError as error:
            raise by_source(error) from error
        except RefusedRow as error:
            file, row = place_in_file(part, asked[0].rows[error.row])
            raise BatchError(f"{file}: row {row}: {error.code}: {error.text}") from error
        except RequestFailed as error:
            self._check_stop()
            raise (Interrupted if error.is_transient else BatchError)(str(error)) from error
        except AskError as error:
            raise BatchError(str(error)) from error

    def _batches(self, part: PartSpec, writer: AnswerWriter, asked: deque[ReadBatch]) -> Iterator[Any]:
        """The rows of a part that can be read; the others are written."""
        for batch in self._source.read(part):
            self._check_stop()
            if batch.bad:
                codes, texts = [each.code for each in batch.bad], [each.sentence for each in batch.bad]
                writer.write_bad(*places_in_files(part, [each.row for each in batch.bad]), codes, texts)
                self._on_rows(len(batch.bad))
            if batch.batch.num_rows:
                asked.append(batch)
                yield self._gathered.batch(batch.batch)

    def _check_stop(self) -> None:
        if self._is_stopping.is_set():
            raise RunStopped


class PartWork:
    """Answers parts into files. Any thread may use it."""

    def __init__(self, rows: PartRows, answers: Any) -> None:
        """`answers` is the schema of the answers."""
        self._rows, self._answers = rows, answers

    def stop(self) -> None:
        """Let every part end with `RunStopped` at its next batch."""
        self._rows.stop()

    def do(self, part: PartSpec, records: Path, errors: Path) -> PartCounts:
        """Answer a part into its two files.

        Raises `BatchError` for what the same part will meet again, `Interrupted` and `RunStopped`.
        """
        try:
            writer = PartWriter(records, errors, self._answers)
            try:
                summary = self._rows.answer(part, writer)
                writer.close()
            except BaseException:
                writer.abandon()
                raise
        except OSError as error:
            raise Interrupted(f"{error.filename or records}: cannot be written: {error.strerror or error}") from error
        return PartCounts(writer.rows, writer.bad_rows, summary)
