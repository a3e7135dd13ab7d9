"""Places of the answers of a job that is followed: a folder with a file for each part, or one file.

A folder keeps where it was, so that the same command goes on. A file appears whole or not at all.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from triptych_client import InvalidOptions
from triptych_client.jobs import PartAnswers

POSITION = "_position.json"
SUFFIXES = (".arrow", ".parquet")


class Output(Protocol):
    """Takes the answers of parts. `in_order` says which order it needs, `position` where it goes on."""

    in_order: bool
    position: int

    def write(self, part: PartAnswers) -> None:
        """Add a part, durably where it can be continued."""

    def finish(self) -> str:
        """End the output, with its last name. Returns a sentence."""

    def abandon(self) -> str:
        """Leave what can be continued. Returns a sentence."""


def output_of(path: Path, job: str, *, replace: bool) -> Output:
    """The output that a path names. Raises `InvalidOptions` if it is that of something else."""
    if path.suffix in SUFFIXES:
        return FileOutput(path, replace=replace)
    if path.suffix and not path.is_dir():
        raise InvalidOptions(f"--out {path}: want a folder, or a file with one of the endings {', '.join(SUFFIXES)}")
    return FolderOutput(path, job)


class FolderOutput:
    """`part-000001.arrow` and so on, each as soon as its part is committed."""

    in_order = False

    def __init__(self, path: Path, job: str) -> None:
        """Raises `InvalidOptions` for a folder with anything else."""
        self._path, self._job, self._parts = path, job, 0
        try:
            path.mkdir(parents=True, exist_ok=True)
            known = _known(path / POSITION)
        except (OSError, ValueError) as error:
            raise InvalidOptions(f"--out {path}: cannot be used: {error}") from None
        if known is None and any(path.iterdir()):
            raise InvalidOptions(f"--out {path}: want a new or an empty folder, or that of {job}")
        if known is not None and known["job"] != job:
            raise InvalidOptions(f"--out {path}: has the answers of {known['job']}; want another folder for {job}")
        self.position = known["position"] if known is not None else 0

    def write(self, part: PartAnswers) -> None:
        _write(self._path / f"part-{part.part:06d}.arrow", part.content)
        _write(self._path / POSITION, json.dumps({"job": self._job, "position": part.position}).encode())
        self.position, self._parts = part.position, self._parts + 1

    def finish(self) -> str:
        return f"{self._path}: {self.position:,} parts"

    def abandon(self) -> str:
        return f"{self._path} has {self.position:,} parts"


class FileOutput:
    """All answers in one file, in the order of the parts."""

    in_order, position = True, 0

    def __init__(self, path: Path, *, replace: bool) -> None:
        """Raises `InvalidOptions` for a file that exists, unless it is to be replaced, and for a missing folder."""
        if path.exists() and not replace:
            raise InvalidOptions(f"--out {path}: exists; --replace puts the answers in its place")
        if not path.parent.is_dir():
            raise InvalidOptions(f"--out {path}: want a folder that exists, got {path.parent}")
        self._path, self._draft = path, path.with_name(f".{path.name}.{os.getpid()}")
        self._writer: Any = None
        self._rows = 0

    def write(self, part: PartAnswers) -> None:
        table = part.table
        if self._writer is None:
            self._writer = self._opened(table.schema)
        self._writer.write_table(table)
        self._rows += table.num_rows

    def finish(self) -> str:
        if self._writer is None:  # a job without rows
            self._writer = self._opened(pa.schema([]))
        self._writer.close()
        self._draft.rename(self._path)
        return f"{self._path}: {self._rows:,} rows"

    def abandon(self) -> str:
        if self._writer is not None:
            self._writer.close()
        self._draft.unlink(missing_ok=True)
        return f"{self._path} was not written"

    def _opened(self, schema: Any) -> Any:
        try:
            if self._path.suffix == ".parquet":
                return pq.ParquetWriter(self._draft, schema, compression="zstd")
            return pa.ipc.new_file(str(self._draft), schema)
        except OSError as error:
            raise InvalidOptions(f"--out {self._path}: cannot be written: {error}") from None


def _known(file: Path) -> dict[str, Any] | None:
    """Job and position of a folder that was begun. Raises `OSError` and `ValueError`."""
    if not file.exists():
        return None
    known: dict[str, Any] = json.loads(file.read_text("utf-8"))
    if not isinstance(known.get("job"), str) or not isinstance(known.get("position"), int):
        raise ValueError(f"{POSITION} was not written by this command")
    return known


def _write(file: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, durably."""
    draft = file.with_name(f".{file.name}")
    with draft.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    draft.replace(file)
