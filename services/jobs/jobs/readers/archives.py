"""Zip archives of any author: their directory is limited before it is read."""

from __future__ import annotations

import zipfile
from typing import IO, Any, Final

from jobs.readers.errors import SourceRefused
from jobs.readers.parts import FileRef

MAX_DIRECTORY_BYTES: Final = 32 << 20  # zipfile takes up to 15 times as much for its entries
_SIZE: Final = 5  # of the directory, in what `zipfile` has read of its end


def open_zip(file: FileRef, stream: IO[bytes]) -> zipfile.ZipFile:
    """A zip whose directory has a limited size. Raises `SourceRefused` and `zipfile.BadZipFile`.

    `zipfile` reads the whole directory, whose size the file says, into memory, and has no limit of its own.
    """
    module: Any = zipfile
    end = module._EndRecData(stream)
    if end and end[_SIZE] > MAX_DIRECTORY_BYTES:
        raise SourceRefused(file.uri, f"has a directory of {end[_SIZE]} bytes, over {MAX_DIRECTORY_BYTES}")
    return zipfile.ZipFile(stream)
