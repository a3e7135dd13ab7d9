"""Uploads that go on where they broke off."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, Final

import google_crc32c

from triptych.protocol import jobs_pb2 as jp
from triptych_client.errors import InvalidOptions, RequestFailed
from triptych_client.jobs.calls import JobCalls
from triptych_client.retries import Backoff, Retries

PIECE_BYTES: Final = 256 << 10
CALL_S: Final = 300.0  # of one call: another one continues a file that takes longer
GET_S: Final = 30.0

Source = str | Path | bytes | BinaryIO
OnUpload = Callable[[int, int], None]


class UploadSource:
    """Bytes to be uploaded: of a path, of `bytes`, or of a binary file that can seek."""

    def __init__(self, source: Source) -> None:
        """Raises `InvalidOptions` for what cannot be read."""
        self._source: Path | bytes | BinaryIO = Path(source) if isinstance(source, str) else source
        self.text = str(self._source) if isinstance(self._source, Path) else "the content"
        try:
            with self.opened() as file:
                self.size = file.seek(0, io.SEEK_END)
        except OSError as error:
            raise InvalidOptions(f"{self.text}: cannot be read: {error.strerror or error}") from None

    def opened(self) -> AbstractContextManager[BinaryIO]:
        """The file, which is closed behind the block if it was opened here."""
        if isinstance(self._source, Path):
            return self._source.open("rb")
        return nullcontext(io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source)

    @property
    def identity(self) -> str:
        """A text that is another one once the content was changed: by size and time of a path."""
        if isinstance(self._source, bytes):
            return hashlib.sha256(self._source).hexdigest()
        changed = self._source.stat().st_mtime_ns if isinstance(self._source, Path) else ""
        return f"{self.size} {changed}"


def upload(calls: JobCalls, name: str, source: UploadSource, retry_s: float, on_upload: OnUpload) -> None:
    """Store all bytes under a name, from those on that are there.

    Raises `RequestFailed` once no byte has arrived for `retry_s`, and `InvalidOptions` for another content.
    """
    backoff, found = Backoff(retry_s), _found(calls, name, retry_s)
    while not found.complete:
        on_upload(found.bytes, source.size)
        pieces = _Pieces(name, source, found.bytes, on_upload)
        try:
            found = calls.answer("Upload", iter(pieces), CALL_S)
        except RequestFailed as error:
            if pieces.fault is not None:
                raise pieces.fault from None
            before, found = found.bytes, _found(calls, name, retry_s)
            if found.bytes > before:
                backoff.reset()
            elif not found.complete:
                backoff.wait(error)
    if found.bytes != source.size:
        text = f"upload '{name}' is complete with {found.bytes} bytes, and {source.text} has {source.size}"
        raise InvalidOptions(f"{text}; want another name")


def _found(calls: JobCalls, name: str, retry_s: float) -> jp.UploadReply:
    """The bytes that are there."""
    request = jp.GetUploadRequest(upload=name)
    reply: jp.UploadReply = Retries(retry_s)(lambda: calls.answer("GetUpload", request, GET_S))
    return reply


class _Pieces:
    """The messages of one call. `fault` is what ended them early; gRPC only reports that they ended."""

    def __init__(self, name: str, source: UploadSource, offset: int, on_upload: OnUpload) -> None:
        self._name, self._source, self._offset, self._on_upload = name, source, offset, on_upload
        self.fault: InvalidOptions | None = None

    def __iter__(self) -> Iterator[jp.UploadRequest]:
        offset, size = self._offset, self._source.size
        try:
            if offset > size:
                raise InvalidOptions(f"upload '{self._name}' has {offset} bytes, and {self._source.text} only {size}")
            with self._source.opened() as file:
                file.seek(offset)
                while True:
                    content = file.read(min(PIECE_BYTES, size - offset))
                    if not content and offset < size:
                        raise InvalidOptions(f"{self._source.text} has become shorter while it was uploaded")
                    end = offset + len(content)
                    crc32c = google_crc32c.value(content)
                    yield jp.UploadRequest(
                        upload=self._name, offset=offset, content=content, crc32c=crc32c, end=end == size
                    )
                    offset = end
                    self._on_upload(offset, size)
                    if offset == size:
                        return
        except InvalidOptions as fault:
            self.fault = fault
            raise
        except OSError as error:
            self.fault = InvalidOptions(f"{self._source.text}: cannot be read: {error.strerror or error}")
            raise
