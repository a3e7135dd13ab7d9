"""The dataset of a document, checked against its model before the first row."""

from __future__ import annotations

from typing import Any

from jobs.batch.errors import BatchError, by_source
from jobs.batch.manifest import MAX_FILES
from jobs.batch.model import PinnedModel
from jobs.readers.base import ReadOptions
from jobs.readers.dataset import Dataset
from jobs.readers.errors import SourceError
from jobs.readers.sources import SourcePolicy, UploadFiles
from triptych_client import Ask, InvalidColumns, InvalidOptions


def open_dataset(model: PinnedModel, policy: SourcePolicy, uploads: UploadFiles | None = None) -> Dataset:
    """The files, with the columns that the model wants. Raises `BatchError`."""
    document = model.document
    options = ReadOptions(
        types=model.types,
        delimiter=document.read.delimiter,
        keep_bad_rows=document.on_bad_rows == "keep",
        limits=document.limits,
    )
    try:
        return Dataset(
            document.read.uri,
            options,
            format=document.read.format,
            policy=policy,
            uploads=uploads,
            choose=model.columns,
        )
    except SourceError as error:
        raise by_source(error) from error


def sources_of(dataset: Dataset, size_bytes: int) -> dict[str, Any]:
    """Facts of the files for a manifest; `size_bytes` is their size unpacked."""
    files = [[file.uri, file.size_bytes, file.stamp] for file in dataset.files[:MAX_FILES]]
    return {"format": dataset.format, "files": len(dataset.files), "bytes": size_bytes, "first_files": files}


def answers_schema(dataset: Dataset, model: PinnedModel, ask: Ask) -> Any:
    """The schema of the answers, if the columns fit the inputs. Raises `BatchError` with all faults."""
    asked = model.gathered.schema(dataset.schema)
    try:
        return ask.schema(asked)
    except InvalidColumns as error:
        there = ", ".join(dataset.names[:20]) + (", ..." if len(dataset.names) > 20 else "")
        faults = "\n".join(f"  {fault}" for fault in error.faults)
        raise BatchError(f"the columns do not fit the model:\n{faults}\nthe dataset has: {there}") from None
    except InvalidOptions as error:
        raise BatchError(str(error)) from None
