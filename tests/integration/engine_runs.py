"""The simplest engine: it answers parts one by one in this process, with what passes through an engine pickled.

python -m tests.integration.engine_runs DOCUMENT
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jobs.batch.destination import destination_of
from jobs.batch.document import read_document
from jobs.batch.engine_run import EngineRun
from jobs.batch.engines.engine import AnsweredPart, PlannedPart, Task
from jobs.batch.manifest import Manifest
from jobs.batch.options import RunOptions
from jobs.batch.progress import RunProgress
from jobs.batch.run import BatchRun
from tests.integration.batch_runs import Batch


@dataclass
class LoopEngine:
    """Answers each part `attempts` times, in the opposite order. `before` is called with each part."""

    name: ClassVar[str] = "loop"
    attempts: int = 1
    before: Callable[[PlannedPart], None] = lambda part: None
    asked: list[int] = field(default_factory=list)

    def answer(self, task: Task, parts: Sequence[PlannedPart]) -> Generator[AnsweredPart, None, None]:
        for part in reversed(parts):
            self.before(part)
            for _ in range(self.attempts):
                answered: AnsweredPart = pickle.loads(pickle.dumps(task))(pickle.loads(pickle.dumps(part)))
            self.asked.append(part.number)
            yield AnsweredPart.from_json(answered.as_json())

    def stop(self) -> None:
        """It ends with its process."""


def run(batch: Batch, engine: LoopEngine, *, replace: bool = False, restart: bool = False) -> Manifest:
    """Run a batch on the engine, in this process."""
    return _run(batch.write_document(), engine, RunOptions(replace, restart))


def run_on_one_machine(batch: Batch) -> Manifest:
    """Run a batch without an engine, in this process."""
    file = batch.write_document()
    document = read_document(file)
    return asyncio.run(BatchRun(document, destination_of(document, file), RunOptions(), _show).run())


def _run(file: Path, engine: LoopEngine, options: RunOptions) -> Manifest:
    document = read_document(file)
    destination = destination_of(document, file, engine.name)
    return asyncio.run(EngineRun(document, destination, engine, options, _show).run())


def _show(progress: RunProgress) -> None:
    print(progress.committed_parts, flush=True)


if __name__ == "__main__":
    _run(Path(sys.argv[1]), LoopEngine(), RunOptions())
