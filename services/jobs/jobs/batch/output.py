"""The output of a run: the files of all committed parts under their numbers, the errors, and the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.batch.folder import RunFolder
from jobs.batch.manifest import Manifest
from jobs.durable_files import place, sync
from jobs.writers.part import COMPRESSION, ERRORS, records_schema

ERRORS_FILE = "errors.parquet"


@dataclass(frozen=True)
class CommittedPart:
    """The files of a part, and its counts. `errors` is there if it has bad rows."""

    number: int
    records: Path
    errors: Path
    rows: int
    bad_rows: int


def stage_output(
    folder: RunFolder, parts: Iterable[CommittedPart], answers: object, manifest: Manifest, *, has_errors: bool
) -> None:
    """Make the staged output anew, from the files of committed parts and from no others."""
    shutil.rmtree(folder.staged, ignore_errors=True)
    folder.staged.mkdir()
    count, bad = 0, []
    for part in parts:
        if part.rows:
            place(part.records, folder.staged / f"part-{part.number:06d}.parquet")
            count += 1
        if part.bad_rows:
            bad.append(part.errors)
    if not count:  # all rows were bad: a reader still finds the columns
        pq.write_table(records_schema(answers).empty_table(), folder.staged / "part-000001.parquet")
    if has_errors:
        _join(bad, folder.staged / ERRORS_FILE)
    manifest.write(folder.staged)


def _join(files: list[Path], into: Path) -> None:
    """One file of the errors of all parts, in their order."""
    with pq.ParquetWriter(into, ERRORS, compression=COMPRESSION) as writer:
        for batch in _batches(files):
            writer.write_batch(batch)
    sync(into)


def _batches(files: list[Path]) -> Iterator[pa.RecordBatch]:
    for file in files:
        with pq.ParquetFile(file) as opened:
            yield from opened.iter_batches()
