"""Uploads: inputs that callers send, as segments in the object store.

    uploads/<upload>/<offset>     the bytes from that offset on, written once
    uploads/<upload>/complete     how many bytes they are

A segment is in the store before the next one is, so the bytes that are there are a prefix of the upload. Any replica
may continue what another one began.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import Final

import google_crc32c

from jobs.objects import Objects
from triptych.errors import Internal, InvalidRequest, clipped

UPLOADS: Final = "uploads"
SEGMENT_BYTES: Final = 8 << 20
MAX_SEGMENTS: Final = 10_000  # of one upload: each call ends one, and each look lists all of them
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
COMPLETE: Final = "complete"


@dataclass(frozen=True)
class Upload:
    """An upload as the store has it."""

    name: str
    bytes: int
    complete: bool


class Uploads:
    """Uploads in a store of objects, each of at most `max_bytes` in `max_segments`."""

    def __init__(
        self, objects: Objects, max_bytes: int, segment_bytes: int = SEGMENT_BYTES, max_segments: int = MAX_SEGMENTS
    ) -> None:
        self._objects, self.max_bytes, self.segment_bytes = objects, max_bytes, segment_bytes
        self._max_segments = max_segments

    async def get(self, name: str) -> Upload:
        """The bytes that are there, 0 for an upload that nobody began. Raises `InvalidRequest`."""
        segments = await self._segments(name)
        complete = segments.pop(COMPLETE, None) is not None
        size = 0
        for segment in sorted(segments):
            if int(segment) != size:  # an upload expired while a call continued it
                raise InvalidRequest(f"upload '{name}' has lost its bytes from offset {size}; want another name")
            size += segments[segment]
        return Upload(name, size, complete)

    async def check_complete(self, name: str) -> None:
        """Raises `InvalidRequest` unless the upload is complete."""
        upload = await self.get(name)
        if not upload.complete:
            raise InvalidRequest(f"upload '{name}' is not complete: {upload.bytes} bytes are there, and no end")

    async def writer(self, name: str) -> UploadWriter:
        """Continue an upload, or begin it. Raises `InvalidRequest`."""
        if len(await self._segments(name)) > self._max_segments:
            text = f"upload '{name}' came in more than {self._max_segments} pieces"
            raise InvalidRequest(f"{text}; send it anew, in fewer and longer calls")
        return UploadWriter(self._objects, await self.get(name), self.max_bytes, self.segment_bytes)

    async def segments(self, name: str) -> list[str]:
        """Names of the objects of a complete upload, in their order. Raises `InvalidRequest`."""
        await self.check_complete(name)
        found = await self._segments(name)
        return [f"{UPLOADS}/{name}/{segment}" for segment in sorted(found) if segment != COMPLETE]

    async def _segments(self, name: str) -> dict[str, int]:
        if not NAME.fullmatch(name):
            want = "want the name of an upload in 1 to 64 letters, digits, _ and -"
            raise InvalidRequest(f"{want}, got '{clipped(name)}'")
        sizes = await self._objects.sizes(f"{UPLOADS}/{name}")
        return {path.rpartition("/")[2]: size for path, size in sizes.items()}


async def expire_uploads(objects: Objects, keep_s: float) -> None:
    """Delete uploads to which nothing was added for `keep_s` seconds. The times of the store are good enough for it."""
    for name in await objects.folders(UPLOADS):
        if time.time() - await objects.modified_s(f"{UPLOADS}/{name}") > keep_s:
            await objects.delete_below(f"{UPLOADS}/{name}")


class UploadWriter:
    """Writes the bytes of one call. Two segments are in memory at most: one that fills, one that is written."""

    def __init__(self, objects: Objects, upload: Upload, max_bytes: int, segment_bytes: int) -> None:
        self._objects, self._upload = objects, upload
        self._max_bytes, self._segment_bytes = max_bytes, segment_bytes
        self._segment, self._start = bytearray(), upload.bytes  # the bytes that are not written, and their offset
        self._writing: asyncio.Task[None] | None = None

    @property
    def upload(self) -> Upload:
        """The upload with the bytes that this call has brought."""
        return Upload(self._upload.name, self._start + len(self._segment), self._upload.complete)

    async def write(self, offset: int, content: bytes, crc32c: int) -> None:
        """Add bytes. Raises `InvalidRequest` for a gap, another checksum, or too many bytes."""
        there = self.upload.bytes
        if self._upload.complete:
            raise InvalidRequest(f"upload '{self._upload.name}' is complete with {there} bytes; want another name")
        if offset != there:
            want = f"upload '{self._upload.name}': want offset {there}, got {offset}"
            raise InvalidRequest(f"{want}; GetUpload counts the bytes that are there, and the next ones are wanted")
        if (found := google_crc32c.value(content)) != crc32c:
            where = f"upload '{self._upload.name}', {len(content)} bytes at offset {offset}"
            raise InvalidRequest(f"{where}: want crc32c {found:08x}, got {crc32c:08x}; send them again")
        if there + len(content) > self._max_bytes:
            raise InvalidRequest(f"want an upload of at most {self._max_bytes} bytes, got more")
        for begin in range(0, len(content), self._segment_bytes):
            self._segment += content[begin : begin + self._segment_bytes]
            if len(self._segment) >= self._segment_bytes:
                await self._flush()

    async def finish(self, *, complete: bool) -> Upload:
        """Store what is left, and mark the upload as complete if it is."""
        await self._flush()
        await self._written()
        if complete and not self._upload.complete:
            content = json.dumps({"bytes": self._start}).encode()
            await self._put(f"{UPLOADS}/{self._upload.name}/{COMPLETE}", content)
            self._upload = Upload(self._upload.name, self._start, True)
        return self.upload

    async def abandon(self) -> None:
        """Wait for what is being written."""
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _flush(self) -> None:
        """Begin to write the segment, once the one before is written."""
        await self._written()
        if self._segment:
            name, content = f"{UPLOADS}/{self._upload.name}/{self._start:020d}", bytes(self._segment)
            self._start += len(content)
            self._segment = bytearray()
            self._writing = asyncio.create_task(self._put(name, content))

    async def _written(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing

    async def _put(self, name: str, content: bytes) -> None:
        try:
            await self._objects.put(name, content)
        except Internal:
            text = f"upload '{self._upload.name}' is written by another call at the same time"
            raise InvalidRequest(f"{text}; want one call for each upload") from None
