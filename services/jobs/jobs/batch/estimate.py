"""An estimate of a run: its rows and parts by the plan, its time by asking a sample."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.batch.columns import GatheredColumns
from jobs.batch.dataset import answers_schema, open_dataset
from jobs.batch.document import BatchDocument
from jobs.batch.errors import BatchError
from jobs.batch.model import PinnedModel, pin
from jobs.readers.dataset import Dataset
from jobs.readers.errors import SourceError
from jobs.readers.parts import PartSpec
from jobs.readers.sources import SourcePolicy
from triptych_client import Ask, AskError

KEPT_PARTS = 100  # of which the sample is taken


@dataclass(frozen=True)
class Estimate:
    """Size of a run, and the rate of its sample.

    `version` is None if each row has its own, and `rows_per_s` if the sample was too short to be measured.
    """

    model: str
    version: int | None
    format: str
    files: int
    size_bytes: int  # unpacked, as far as the files say
    parts: int
    rows: int
    sample_rows: int
    rows_per_s: float | None

    @property
    def seconds(self) -> float | None:
        """Time of the run on this machine."""
        return None if self.rows_per_s is None else self.rows / self.rows_per_s

    def workers(self, deadline_s: float) -> int | None:
        """Machines such as this one that meet a deadline; None without a rate."""
        return None if self.seconds is None else max(1, math.ceil(self.seconds / deadline_s))


def estimate(document: BatchDocument, policy: SourcePolicy, sample_s: float) -> Estimate:
    """Plan a run and ask rows for about `sample_s` seconds. Nothing is written. Raises `BatchError`."""
    model = pin(document, document.home)
    dataset = open_dataset(model, policy)
    with model.ask(model.gathered.schema(dataset.schema).names) as ask:
        answers_schema(dataset, model, ask)
        parts, count, rows, size_bytes = _planned(dataset)
        sample_rows, rate = _measured(dataset, model, ask, parts, sample_s)
    return _estimate(model, dataset, count, rows, size_bytes, sample_rows, rate)


def _estimate(
    model: PinnedModel, dataset: Dataset, parts: int, rows: int, size_bytes: int, sample_rows: int, rate: float | None
) -> Estimate:
    return Estimate(
        model=model.info.name,
        version=None if model.document.traffic_key else model.version,
        format=dataset.format,
        files=len(dataset.files),
        size_bytes=size_bytes,
        parts=parts,
        rows=rows,
        sample_rows=sample_rows,
        rows_per_s=rate,
    )


def _planned(dataset: Dataset) -> tuple[Sequence[PartSpec], int, int, int]:
    """The first parts, and the number, rows and bytes of all."""
    first: list[PartSpec] = []
    count = rows = size_bytes = 0
    try:
        for part in dataset.parts():
            count, rows, size_bytes = count + 1, rows + (part.rows or 0), size_bytes + part.size_bytes
            if len(first) < KEPT_PARTS:
                first.append(part)
    except SourceError as error:
        raise BatchError(str(error)) from error
    return first, count, rows, size_bytes


def _measured(
    dataset: Dataset, model: PinnedModel, ask: Ask, parts: Sequence[PartSpec], sample_s: float
) -> tuple[int, float | None]:
    """Rows that were asked, and rows in a second without the first batch, which loads the model."""
    asked = first = 0
    begun_s = ended_s = time.monotonic()
    started_s = begun_s
    try:
        for answers in ask.over(_batches(dataset, model.gathered, parts)):
            asked, ended_s = asked + answers.num_rows, time.monotonic()
            if not first:
                first, begun_s = asked, ended_s
            if ended_s - started_s > sample_s:
                break
    except (SourceError, AskError) as error:
        raise BatchError(str(error)) from error
    if asked == first:  # one batch: with all that the first one costs
        first, begun_s = 0, started_s
    return asked, (asked - first) / (ended_s - begun_s) if asked and ended_s > begun_s else None


def _batches(dataset: Dataset, gathered: GatheredColumns, parts: Sequence[PartSpec]) -> Iterator[Any]:
    for part in parts:
        for batch in dataset.read(part):
            if batch.batch.num_rows:
                yield gathered.batch(batch.batch)
