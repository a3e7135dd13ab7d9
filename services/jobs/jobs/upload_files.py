"""Uploads as files that a reader can seek in, whichever worker reads them."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from jobs.objects import Objects
from jobs.readers.errors import SourceChanged, SourceRefused, SourceUnavailable
from jobs.readers.parts import FileRef
from jobs.readers.sources import RangeStream
from jobs.uploads import COMPLETE, NAME, UPLOADS
from triptych.errors import Unavailable, clipped

PREFIX: Final = "upload://"
STAMP: Final = "upload"  # a complete upload never changes


class StoredUploads:
    """Complete uploads by their URI. Methods raise `SourceError`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def find(self, uri: str) -> FileRef:
        """The file of `upload://name`."""
        segments = self._segments(uri)
        return FileRef(uri, sum(size for _, size in segments), STAMP)

    def open(self, file: FileRef) -> io.RawIOBase:
        """A seekable stream of the planned content."""
        segments = self._segments(file.uri)
        if sum(size for _, size in segments) != file.size_bytes:
            raise SourceChanged(file.uri, "has lost some of its bytes since the plan")
        return _SegmentStream(self._objects, file, segments)

    def _segments(self, uri: str) -> Sequence[tuple[str, int]]:
        """Names and sizes of the segments in their order."""
        name = uri.removeprefix(PREFIX)
        if not NAME.fullmatch(name):
            raise SourceRefused(clipped(uri), f"want {PREFIX} and the name of an upload")
        try:
            sizes = self._objects.sizes_now(f"{UPLOADS}/{name}")
        except Unavailable as error:
            raise SourceUnavailable(uri, str(error)) from error
        if f"{UPLOADS}/{name}/{COMPLETE}" not in sizes:
            raise SourceRefused(uri, "there is no complete upload of that name; it may have expired")
        return sorted((each, size) for each, size in sizes.items() if not each.endswith(f"/{COMPLETE}"))


class _SegmentStream(RangeStream):
    """Reads the segments of an upload as one file."""

    def __init__(self, objects: Objects, file: FileRef, segments: Sequence[tuple[str, int]]) -> None:
        super().__init__(file)
        self._objects, self._segments = objects, segments
        self._starts = list(accumulate((size for _, size in segments), initial=0))

    def read_range(self, start: int, end: int) -> bytes:
        number = bisect_right(self._starts, start) - 1
        name, size = self._segments[number]
        begin = self._starts[number]
        try:
            return self._objects.read_range(name, start - begin, min(size, end - begin))
        except FileNotFoundError:
            raise SourceChanged(self.file.uri, "has expired since the plan") from None
        except Unavailable as error:
            raise SourceUnavailable(self.file.uri, str(error)) from error
