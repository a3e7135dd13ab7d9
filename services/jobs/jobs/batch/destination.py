"""Destinations of a run: a folder of Parquet, or a table of Postgres."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from jobs.batch.document import BatchDocument
from jobs.batch.errors import BatchError
from jobs.batch.folder import RunFolder
from jobs.batch.manifest import Manifest, read_manifest
from jobs.batch.output import CommittedPart, stage_output
from triptych.contract.reading.files import printable_path

RUN: Final = "run"  # the end of the folder of a run on this machine


class Destination(Protocol):
    """Where the answers of a run appear, whole and at once."""

    @property
    def folder(self) -> RunFolder:
        """The folder of the run until its end."""

    async def check(self, *, replace: bool) -> None:
        """Raises `BatchError` if there is something that the run may not replace."""

    async def check_columns(self, answers: Any) -> None:
        """Raises `BatchError` if answers of this schema cannot be written."""

    async def manifest(self, run: str) -> Manifest | None:
        """The manifest, if the output is that of this run."""

    async def publish(
        self, parts: Sequence[CommittedPart], answers: Any, manifest: Manifest, *, has_errors: bool
    ) -> None:
        """Let the output appear. A second call does no harm. Raises `OSError`."""


class ParquetFolder:
    """A folder of Parquet, which gets its name when it is complete."""

    def __init__(self, output: Path, suffix: str = RUN) -> None:
        self.folder = RunFolder(output.parent / f".{output.name}.{suffix}", output)
        self._output, self._replaces = output, False

    async def check(self, *, replace: bool) -> None:
        self._replaces = replace
        if not self.folder.has_begun or replace:
            self._check_output()

    def _check_output(self) -> None:
        """Raises `BatchError` for an output that may not be replaced: only that of a batch may, by order."""
        name = printable_path(self._output)
        if not os.path.lexists(self._output):
            return
        if self._output.is_symlink() or read_manifest(self._output) is None:
            raise BatchError(f"{name} exists and is no output of a batch; move it, or write elsewhere")
        if not self._replaces:
            raise BatchError(f"{name} exists; --replace puts the new output in its place")

    async def check_columns(self, answers: Any) -> None:
        """All of Arrow's types that answers have can be written."""

    async def manifest(self, run: str) -> Manifest | None:
        found = read_manifest(self._output)
        return found if found is not None and found.run == run else None

    async def publish(
        self, parts: Sequence[CommittedPart], answers: Any, manifest: Manifest, *, has_errors: bool
    ) -> None:
        if await self.manifest(manifest.run) is not None:
            return
        self._check_output()
        await asyncio.to_thread(stage_output, self.folder, parts, answers, manifest, has_errors=has_errors)
        await asyncio.to_thread(self.folder.publish)


def destination_of(document: BatchDocument, file: Path, suffix: str = RUN) -> Destination:
    """The destination of a document that lies in `file`; the folder of the run ends with `suffix`.

    Raises `BatchError`.
    """
    if document.write.postgres is not None:
        from jobs.batch.postgres_table import PostgresTable

        return PostgresTable(document.write.postgres, file.parent / f".{file.stem}.{suffix}")
    if "://" in document.write.parquet:
        raise BatchError(f"write.parquet: want a folder of this machine, got '{document.write.parquet}'")
    return ParquetFolder(Path(document.write.parquet).absolute(), suffix)
