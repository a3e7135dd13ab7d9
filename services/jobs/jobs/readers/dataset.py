"""A dataset: the files of some URIs in one format, with one schema, in parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.readers.base import ReadOptions, checked_schema, read_rows
from jobs.readers.errors import SourceRefused
from jobs.readers.parts import FileRef, PartSpec, ReadBatch
from jobs.readers.registry import format_of, readers
from jobs.readers.sources import SourcePolicy, Sources, UploadFiles


@dataclass(frozen=True)
class PartReader:
    """Reads the parts of a dataset on any machine that has its files. It can be pickled.

    `folder` is where relative paths begin: the working directory of the process that made it.
    """

    format: str
    options: ReadOptions
    schema: Any
    policy: SourcePolicy
    folder: str

    def read(self, part: PartSpec) -> Iterator[ReadBatch]:
        """The rows of a part. Raises `SourceError`."""
        reader = readers()[self.format](Sources(self.policy, self.options.limits.max_files), self.options)
        files = tuple(replace(file, uri=self._placed(file.uri)) for file in part.files)
        return read_rows(reader, replace(part, files=files), self.schema)

    def _placed(self, uri: str) -> str:
        return uri if "://" in uri else os.path.join(self.folder, uri)


class Dataset:
    """Files that were found, and the schema of the wanted columns. Making it reads headers and footers only.

    Raises `SourceError` for what can be known before any row.
    """

    def __init__(
        self,
        uris: Sequence[str],
        options: ReadOptions,
        *,
        format: str = "",
        policy: SourcePolicy | None = None,
        uploads: UploadFiles | None = None,
        choose: Callable[[Sequence[str]], tuple[str, ...]] | None = None,
    ) -> None:
        """`choose` gives the wanted columns by those of the first file, in place of `options.columns`."""
        self._policy = policy or SourcePolicy()
        sources = Sources(self._policy, options.limits.max_files, uploads)
        self.files: Sequence[FileRef] = sources.find(uris)
        self.format = format or format_of(self.files)
        if self.format not in readers():
            raise SourceRefused(uris[0], f"unknown format '{self.format}'; known: {', '.join(readers())}")
        reader = readers()[self.format](sources, options)
        self.names: Sequence[str] = reader.schema(self.files[0]).names
        if choose is not None:
            options = replace(options, columns=choose(self.names))
            reader = readers()[self.format](sources, options)
        self.schema = checked_schema(reader, self.files)
        # Formats without types take those of the first file, so that all files have the same.
        self.options = replace(options, types={each.name: each.type for each in self.schema})
        self._reader = readers()[self.format](sources, self.options)

    def parts(self) -> Iterator[PartSpec]:
        """The parts in the order of files and rows. Raises `SourceError`; no row at all is an error."""
        rows = 0
        for part in self._reader.parts(self.files):
            rows += 1 if part.rows is None else part.rows
            yield part
        if not rows:
            raise SourceRefused(self.files[0].uri, "no row is there")

    def read(self, part: PartSpec) -> Iterator[ReadBatch]:
        """The rows of a part. Raises `SourceError`."""
        return read_rows(self._reader, part, self.schema)

    def part_reader(self) -> PartReader:
        """The reader of its parts for other processes and machines. Uploads are read by this one alone."""
        return PartReader(self.format, self.options, self.schema, self._policy, os.getcwd())


def places_in_files(part: PartSpec, rows: Sequence[int]) -> tuple[Any, Any]:
    """Files and rows in them, as arrays of Arrow, of rows of a part."""
    numbers = np.asarray(rows, np.int64)
    if len(part.files) > 1:
        return pa.array([part.files[row].uri for row in rows], pa.string()), pa.array(np.zeros_like(numbers))
    return pa.repeat(pa.scalar(part.files[0].uri), len(numbers)), pa.array(numbers + part.first_row)


def place_in_file(part: PartSpec, row: int) -> tuple[str, int]:
    """File and row, counted from 0 in the file, of a row of a part."""
    if len(part.files) > 1:
        return part.files[row].uri, 0
    return part.files[0].uri, part.first_row + row
