"""The interface of an engine: it calls a task for each part, on any of its machines, until each is answered."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Protocol

from jobs.batch.errors import BatchError, Interrupted

_FAILURE: Final = re.compile(r'\{"text": "(?:[^"\\]|\\.)*", "is_transient": (?:true|false)\}')


@dataclass(frozen=True)
class PlannedPart:
    """A part by its number, from 1. `spec` is the JSON of its `PartSpec`."""

    number: int
    spec: str


@dataclass(frozen=True)
class AnsweredPart:
    """A part whose files are written. `name` is that of the attempt, of which there may be several."""

    number: int
    name: str
    rows: int
    bad_rows: int
    seconds: float
    summary: Mapping[str, Any] | None = None

    def as_json(self) -> str:
        """Text of `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> AnsweredPart:
        """Raises `ValueError`, `TypeError`."""
        return cls(**json.loads(text))


class Task(Protocol):
    """The work on one part. It can be pickled, and each machine has the packages that it needs."""

    def __call__(self, part: PlannedPart) -> AnsweredPart:
        """Answer a part. Raises `Interrupted` for what another attempt may not meet again, else `BatchError`."""


class Engine(Protocol):
    """One engine. `name` is its word on the command line."""

    name: ClassVar[str]

    def answer(self, task: Task, parts: Sequence[PlannedPart]) -> Generator[AnsweredPart, None, None]:
        """Call the task for each part, again if a machine or process is lost. Yields parts in any order.

        Raises `BatchError` with the sentence of a part that failed, and `Interrupted`.
        """

    def stop(self) -> None:
        """Let `answer` end soon, with an error. Any thread may call it."""


class PartFailed(Exception):
    """A part failed on a worker. Engines carry the text of an error alone, in which `found_in` finds it again."""

    def __init__(self, failure: str) -> None:
        super().__init__(failure)

    @classmethod
    def of(cls, error: BatchError) -> PartFailed:
        """The failure by an error of a task."""
        return cls(json.dumps({"text": str(error), "is_transient": isinstance(error, Interrupted)}))

    @staticmethod
    def found_in(text: str) -> BatchError | None:
        """The error of a task in a text with a failure; None without one."""
        found = _FAILURE.search(text)
        if found is None:
            return None
        values: Mapping[str, Any] = json.loads(found[0])
        return (Interrupted if values["is_transient"] else BatchError)(values["text"])
