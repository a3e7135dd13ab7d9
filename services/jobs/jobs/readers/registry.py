"""Registry of readers: those of this package, and those of installed packages.

[project.entry-points."triptych.readers"]
dicom = "acme_readers:Dicom"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Final

from jobs.readers.arrow_ipc import ArrowFileReader, ArrowStreamReader
from jobs.readers.base import Reader
from jobs.readers.csv import CsvReader
from jobs.readers.errors import SourceRefused
from jobs.readers.infer_requests import InferRequestReader
from jobs.readers.jsonl import JsonlReader
from jobs.readers.numpy_files import NpyReader, NpzReader
from jobs.readers.parquet import ParquetReader
from jobs.readers.parts import FileRef
from jobs.readers.pictures import PictureReader

GROUP: Final = "triptych.readers"
BUILT_IN: Final[tuple[type[Reader], ...]] = (
    ParquetReader, ArrowFileReader, ArrowStreamReader, CsvReader, JsonlReader, InferRequestReader, PictureReader,
    NpyReader, NpzReader
)  # fmt: skip


class ReaderConflict(TypeError):
    """An entry point of an installed package is no reader, or has the name of another."""


@cache
def readers() -> Mapping[str, type[Reader]]:
    """Every known reader by its name. Read at first use, because a package with readers imports this one."""
    found = {reader.name: reader for reader in BUILT_IN}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        reader = entry.load()
        if not (isinstance(reader, type) and issubclass(reader, Reader)):
            raise ReaderConflict(f"entry point '{entry.name}' ({entry.value}) is no subclass of Reader")
        if found.setdefault(reader.name, reader) is not reader:
            raise ReaderConflict(f"entry point '{entry.name}' ({entry.value}): there is a reader '{reader.name}'")
    return MappingProxyType(found)


def format_of(files: Sequence[FileRef]) -> str:
    """The format that the names of all files say. Raises `SourceRefused`."""
    formats: dict[str, FileRef] = {}
    for file in files:
        name = file.uri.lower()
        found = next((each for each in readers().values() if name.endswith(each.suffixes)), None)
        if found is None:
            raise SourceRefused(file.uri, f"its name tells no format; say one in read.format: {', '.join(readers())}")
        formats.setdefault(found.name, file)
    if len(formats) > 1:
        (one, first), (two, second) = list(formats.items())[:2]
        raise SourceRefused(second.uri, f"is {two}, but {first.uri} is {one}; want files of one format")
    return next(iter(formats))
