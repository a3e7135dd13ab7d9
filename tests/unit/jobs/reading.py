"""Reads files as a run does: find, plan, then read part by part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.readers.base import ReadOptions
from jobs.readers.dataset import Dataset
from jobs.readers.limits import ReadLimits
from jobs.readers.parts import BadRow, PartSpec
from jobs.readers.sources import SourcePolicy


def dataset_of(*files: Path | str, format: str = "", policy: SourcePolicy | None = None, **options: Any) -> Dataset:
    limits = ReadLimits(**options.pop("limits", {}))
    return Dataset([str(file) for file in files], ReadOptions(limits=limits, **options), format=format, policy=policy)


def through_json(part: PartSpec) -> PartSpec:
    """The part as a worker gets it."""
    return PartSpec.from_json(json.loads(json.dumps(part.as_json())))


def rows_of(dataset: Dataset) -> list[dict[str, Any]]:
    """All rows, read part by part."""
    batches = [batch.batch for part in dataset.parts() for batch in dataset.read(through_json(part))]
    return [row for batch in batches for row in batch.to_pylist()]


def read_all(dataset: Dataset) -> tuple[list[int], list[BadRow]]:
    """Places in the file of all good rows, and the bad ones with theirs."""
    good: list[int] = []
    bad: list[BadRow] = []
    for part in dataset.parts():
        for batch in dataset.read(through_json(part)):
            good += [part.first_row + row for row in batch.rows]
            bad += [each._replace(row=part.first_row + each.row) for each in batch.bad]
    return good, bad


def sizes_of(dataset: Dataset) -> Sequence[int | None]:
    """Rows of each part."""
    return [part.rows for part in dataset.parts()]
