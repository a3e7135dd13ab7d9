"""Sources: files by path, glob or URI, within what a policy allows, and streams that notice a changed file.

A URI is `s3://bucket/key`, `gs://bucket/key`, `file:///path` or a plain path, and for a job `upload://name`. The last
parts may have `*`, `?` and
`[...]`; `**` is any number of folders. A folder, or a key that ends with a slash, stands for all files below it.
Files whose name begins with `.` or `_` are left out, as Spark and Hive do.
"""

from __future__ import annotations

import glob
import io
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import IO, Any, Final, Protocol

from obstore.exceptions import BaseError, PreconditionError
from obstore.store import GCSStore, S3Store

from jobs.readers.errors import SourceChanged, SourceError, SourceRefused, SourceUnavailable, first_line
from jobs.readers.parts import FileRef
from jobs.store_options import client_options
from triptych.contract.reading.files import cause, is_within, resolved

SCHEMES: Final = ("file", "s3", "gs")
UPLOAD: Final = "upload"  # for jobs
BUFFER_BYTES: Final = 1 << 20  # of one ranged download
PAGE_OBJECTS: Final = 1000
CONNECT_S, SILENCE_S, RETRY_S, RETRIES = 5, 30, 10, 3
_MAGIC: Final = re.compile(r"[*?\[]")
_URI: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
_BUCKET: Final = re.compile("[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """Rule of what may be read: URIs with one of the `schemes` and, if there are any `prefixes`, below one of them.

    Prefixes are folders such as `/data/in`, or `s3://bucket/key`. A path is compared when its links are resolved.
    """

    schemes: tuple[str, ...] = SCHEMES
    prefixes: tuple[str, ...] = ()

    def check_scheme(self, uri: str) -> None:
        """Raises `SourceRefused`."""
        scheme = scheme_of(uri)
        if scheme not in self.schemes:
            raise SourceRefused(uri, f"want one of the schemes {', '.join(self.schemes)}, got {scheme}")

    def check_file(self, uri: str, real: str) -> None:
        """Check the resolved path of a file. Raises `SourceRefused`."""
        folders = [folder for prefix in self.prefixes if (folder := _real_folder(prefix))]
        if self.prefixes and not any(is_within(real, folder) for folder in folders):
            raise SourceRefused(uri, f"lies outside of what may be read: {', '.join(self.prefixes)}")

    def check_object(self, uri: str) -> None:
        """Check the URI of an object, which has no links. Raises `SourceRefused`."""
        allowed = [prefix.rstrip("/") for prefix in self.prefixes if _URI.match(prefix)]
        if self.prefixes and not any(uri == prefix or uri.startswith(f"{prefix}/") for prefix in allowed):
            raise SourceRefused(uri, f"lies outside of what may be read: {', '.join(self.prefixes)}")


class UploadFiles(Protocol):
    """Uploads as files. Methods raise `SourceError`."""

    def find(self, uri: str) -> FileRef:
        """The file of `upload://name`."""

    def open(self, file: FileRef) -> io.RawIOBase:
        """A seekable stream of it."""


class Sources:
    """Finds and opens the files of a run."""

    def __init__(
        self, policy: SourcePolicy | None = None, max_files: int = 100_000, uploads: UploadFiles | None = None
    ) -> None:
        self.policy, self.max_files, self._uploads = policy or SourcePolicy(), max_files, uploads

    def find(self, uris: Sequence[str]) -> list[FileRef]:
        """The files of these URIs in the order of their names, each once. Raises `SourceError`; none is an error."""
        found: dict[str, FileRef] = {}
        for uri in uris:
            self.policy.check_scheme(uri)
            is_empty = True
            for file in self._files(uri):
                found[file.uri], is_empty = file, False
                if len(found) > self.max_files:
                    raise SourceRefused(uri, f"more than {self.max_files} files (limits.maxFiles)")
            if is_empty:
                raise SourceRefused(uri, "no file is there")
        return list(found.values())

    def _files(self, uri: str) -> Iterator[FileRef]:
        scheme = scheme_of(uri)
        if scheme == UPLOAD and self._uploads is not None:
            return iter([self._uploads.find(uri)])
        return self._local(uri) if scheme == "file" else self._objects(uri)

    @contextmanager
    def open(self, file: FileRef) -> Iterator[IO[bytes]]:
        """A seekable stream of the planned content. Raises `SourceChanged` at its start and at its end."""
        self.policy.check_scheme(file.uri)
        if scheme_of(file.uri) == UPLOAD and self._uploads is not None:
            with io.BufferedReader(self._uploads.open(file), BUFFER_BYTES) as buffered:
                yield buffered
            return
        if scheme_of(file.uri) != "file":
            self.policy.check_object(file.uri)
            with io.BufferedReader(_ObjectStream(file), BUFFER_BYTES) as buffered:
                yield buffered
            return
        stream = self._open_local(file.uri)
        with stream:
            _check_stamp(file, os.fstat(stream.fileno()))
            yield stream
            _check_stamp(file, os.fstat(stream.fileno()))

    def _open_local(self, uri: str) -> IO[bytes]:
        path = path_of(uri)
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                mode = os.fstat(handle).st_mode
                if not stat.S_ISREG(mode):
                    raise SourceRefused(uri, "want a regular file")
                self.policy.check_file(uri, os.readlink(f"/proc/self/fd/{handle}"))
                return open(os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY), "rb")
            finally:
                os.close(handle)
        except OSError as error:
            raise SourceError(uri, f"cannot be read: {cause(error)}") from None
        except ValueError as error:  # a NUL in the name
            raise SourceError(uri, f"cannot be read: {error}") from None

    def _local(self, uri: str) -> Iterator[FileRef]:
        path = path_of(uri)
        if "\0" in path:
            raise SourceError(uri, "cannot be read: a NUL in the name")
        if os.path.isdir(path):
            paths: Iterator[str] = (
                os.path.join(folder, name) for folder, names in _visible_folders(path) for name in names
            )
        elif _MAGIC.search(path) and not os.path.lexists(path):
            paths = glob.iglob(path, recursive=True)
        else:
            paths = iter([path] if os.path.lexists(path) else [])
        base = path if os.path.lexists(path) else fixed_part(path)
        wanted = (each for each in paths if is_visible(each, base))
        for each in _in_order(wanted, self.max_files):
            if not os.path.isdir(each):
                yield self._local_file(each)

    def _local_file(self, path: str) -> FileRef:
        with self._open_local(path) as stream:
            status = os.fstat(stream.fileno())
        return FileRef(path, status.st_size, _stamp(status))

    def _objects(self, uri: str) -> Iterator[FileRef]:
        scheme, bucket, key = split_object(uri)
        if not _MAGIC.search(key):
            self.policy.check_object(uri)
        folder = fixed_part(key)
        matches = re.compile(_glob_pattern(key)) if folder != key else None
        is_below = f"{key.rstrip('/')}/" if key.rstrip("/") else ""
        try:
            for page in store_of(scheme, bucket).list(prefix=folder.rstrip("/") or None, chunk_size=PAGE_OBJECTS):
                for meta in page:
                    path = meta["path"]
                    wanted = matches.fullmatch(path) if matches else path == key or path.startswith(is_below)
                    if wanted and is_visible(path, folder) and meta["size"]:
                        yield self._object(scheme, bucket, meta)
            if matches is None and key and not key.endswith("/"):  # S3 does not list an object by its whole key
                yield self._object(scheme, bucket, store_of(scheme, bucket).head(key))
        except FileNotFoundError:
            return
        except (BaseError, OSError, ValueError, TypeError) as error:
            raise SourceUnavailable(uri, f"cannot be listed: {first_line(error)}") from error

    def _object(self, scheme: str, bucket: str, meta: Any) -> FileRef:
        uri = f"{scheme}://{bucket}/{meta['path']}"
        self.policy.check_object(uri)
        tag = (meta["e_tag"] or "").strip('"')
        stamp = f"etag:{tag}" if tag else f"{meta['size']}-{meta['last_modified'].isoformat()}"
        return FileRef(uri, meta["size"], stamp)


class RangeStream(io.RawIOBase, ABC):
    """A seekable stream of a file that is read by ranges."""

    def __init__(self, file: FileRef) -> None:
        self.file, self._at = file, 0

    @abstractmethod
    def read_range(self, start: int, end: int) -> bytes:
        """Bytes from `start` on, at least one and none behind `end`. Raises `SourceError`."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.file.size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, into: Any) -> int:
        end = min(self._at + len(into), self.file.size_bytes)
        if end <= self._at:
            return 0
        data = self.read_range(self._at, end)
        into[: len(data)] = data
        self._at += len(data)
        return len(data)


class _ObjectStream(RangeStream):
    """Reads one object, each range on the condition that its etag is that of the plan."""

    def __init__(self, file: FileRef) -> None:
        super().__init__(file)
        scheme, bucket, self._key = split_object(file.uri)
        self._store = store_of(scheme, bucket)
        tag = file.stamp.removeprefix("etag:")
        is_strong = file.stamp.startswith("etag:") and not tag.startswith("W/")
        self._condition: Any = {"if_match": f'"{tag}"'} if is_strong else {}

    def read_range(self, start: int, end: int) -> bytes:
        try:
            answer = self._store.get(self._key, options={**self._condition, "range": (start, end)})
            if answer.meta["size"] != self.file.size_bytes:
                raise SourceChanged(self.file.uri, "has changed since the plan; plan the run anew")
            return bytes(answer.bytes())
        except (FileNotFoundError, PreconditionError):
            raise SourceChanged(self.file.uri, "has changed since the plan; plan the run anew") from None
        except (BaseError, ValueError, TypeError) as error:
            raise SourceUnavailable(self.file.uri, f"cannot be read: {first_line(error)}") from error


def scheme_of(uri: str) -> str:
    """`s3` of `s3://...`; `file` of a path."""
    found = _URI.match(uri)
    return found[1] if found else "file"


def path_of(uri: str) -> str:
    """The path of a `file://` URI or of a plain path."""
    found = _URI.match(uri)
    return found[2] if found else uri


def fixed_part(pattern: str) -> str:
    """The folder of a glob that all its files lie in; the whole text if it is no glob."""
    return _MAGIC.split(pattern)[0].rpartition("/")[0] if _MAGIC.search(pattern) else pattern


def is_visible(path: str, folder: str) -> bool:
    """Whether no part below the folder begins with `.` or `_`."""
    return not any(part.startswith((".", "_")) for part in path.removeprefix(folder).split("/"))


def split_object(uri: str) -> tuple[str, str, str]:
    """Scheme, bucket and key. Raises `SourceRefused`."""
    found = _URI.match(uri)
    scheme, rest = (found[1], found[2]) if found else ("", uri)
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise SourceRefused(f"{scheme}://...", "want the name of a bucket; keys and addresses are in AWS_... variables")
    if {".", ".."} & set(key.split("/")) or "//" in key:
        raise SourceRefused(uri, "want no part '.' or '..', and single slashes, behind the bucket")
    return scheme, bucket, key


@lru_cache(maxsize=32)
def store_of(scheme: str, bucket: str) -> Any:
    """A connection by the usual variables of the environment, such as AWS_ENDPOINT_URL. Raises `ValueError`."""
    timeouts = {"connect_timeout": timedelta(seconds=CONNECT_S), "read_timeout": timedelta(seconds=SILENCE_S)}
    options: Any = timeouts | client_options()
    retry: Any = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)}
    kind: Any = S3Store if scheme == "s3" else GCSStore
    return kind(bucket, client_options=options, retry_config=retry)


def _visible_folders(root: str) -> Iterator[tuple[str, list[str]]]:
    """Folders below `root` with the names of their files; without hidden folders, and without links to folders."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        yield folder, names


def _in_order(paths: Iterator[str], most: int) -> list[str]:
    """The paths by name, at most one more than `most`."""
    found = []
    for path in paths:
        found.append(path)
        if len(found) > most:
            break
    return sorted(found)


def _glob_pattern(key: str) -> str:
    """A regular expression of a glob, in which `*` stays within one part and `**/` is any number of parts."""
    parts = re.split(r"(\*\*/|\*)", key)
    fixed = {"**/": "(?:[^/]+/)*", "*": "[^/]*"}
    return "".join(fixed.get(part) or _glob_piece(part) for part in parts)


def _glob_piece(text: str) -> str:
    """The pattern of a piece without `*`: `?` and `[...]` as in a shell."""
    pieces = re.split(r"(\?|\[[^\]]+\])", text)
    return "".join(
        "[^/]" if piece == "?" else piece.replace("[!", "[^") if piece.startswith("[") else re.escape(piece)
        for piece in pieces
    )


def _real_folder(prefix: str) -> str:
    """The resolved folder of a prefix; '' for a bucket, or where there is none."""
    if scheme_of(prefix) != "file":
        return ""
    try:
        return resolved(path_of(prefix))
    except OSError:
        return ""


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _check_stamp(file: FileRef, status: os.stat_result) -> None:
    if _stamp(status) != file.stamp:
        was, now = f"{file.size_bytes} bytes", f"{status.st_size} bytes"
        what = f": {was} then, {now} now" if was != now else ""
        raise SourceChanged(file.uri, f"has changed since the plan{what}; plan the run anew")
