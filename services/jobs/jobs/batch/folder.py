"""The folder of a run that has not ended: beside the output, with the ledger, the parts and a lock."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobs.batch.errors import BatchError
from jobs.durable_files import exchange, sync, sync_tree
from triptych.contract.reading.files import cause, printable_path

MANIFEST: Final = "_manifest.json"


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run. `output` is the folder that appears at its end; None for a run that writes elsewhere.

    `run` is the id of a run on an engine: what is left of an earlier one on its machines writes into another folder.
    """

    path: Path
    output: Path | None = None
    run: str = ""

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.sqlite"

    @property
    def parts(self) -> Path:
        return self.path / (f"parts-{self.run}" if self.run else "parts")

    @property
    def staged(self) -> Path:
        """The output before it gets its name."""
        return self.path / "output"

    @property
    def facts(self) -> Path:
        """The facts of a run on an engine, which has no ledger of ours."""
        return self.path / "run.json"

    @property
    def has_begun(self) -> bool:
        """Whether there is a run to go on with."""
        return self.ledger.exists() or self.facts.exists()

    def records_file(self, name: str) -> Path:
        """The records of an attempt at a part."""
        return self.parts / f"{name}.parquet"

    def errors_file(self, name: str) -> Path:
        """Its rows without an answer."""
        return self.parts / f"{name}.errors.parquet"

    def counts_file(self, name: str) -> Path:
        """The counts of an attempt whose other files are whole, by an engine."""
        return self.parts / f"{name}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the run, which ends with the process. Raises `BatchError` if another one has it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise BatchError(f"{printable_path(self.path)}: cannot be made: {cause(error)}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise BatchError(f"another process makes this run; its lock is {printable_path(self.path)}/lock") from None
        try:
            yield
        finally:
            os.close(lock)

    def clear(self) -> None:
        """Remove all but the lock, for a run that begins anew."""
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def remove(self) -> None:
        """Remove the folder of a run that has ended, the ledger last: it says so until then."""
        for folder in (self.parts, self.staged, self.path):
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self) -> None:
        """Give the staged output its name, at once; an output that exists takes its place in this folder."""
        assert self.output is not None
        sync_tree(self.staged)
        if self.output.exists():
            exchange(self.staged, self.output)
        else:
            self.staged.rename(self.output)
        sync(self.output.parent)
