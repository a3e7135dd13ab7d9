"""An object store by its URI: what lies there, and its bytes. The one place that knows obstore."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import GCSStore, LocalStore, S3Store

from repository.catalogue.store.uri import split

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

PAGE = 1000  # objects in one answer of S3
CHUNK_BYTES = 1 << 20
# A fault is told within seconds and the next look tries again. A large file may take long, but not stand still.
CONNECT_S, SILENCE_S, WHOLE_S, RETRY_S, RETRIES = 5, 30, 3600, 10, 3

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATUS = re.compile(r"status code: (\d{3}[A-Za-z ]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_SYSTEM = re.compile(r'message: "([^"]+)"|error: "((?:failed to lookup|dns)[^"]+)"')


class StoreError(OSError):
    """The store does not give what it is asked for. `filename` is its URI, `strerror` says why and what to do.

    `away`: nothing else can be had from it now either.
    """

    def __init__(self, uri: str, why: str, *, away: bool = True) -> None:
        super().__init__(errno.EIO, why, uri)
        self.away = away

    def __str__(self) -> str:
        return f"{self.filename}: cannot be read: {self.strerror}"


class Changed(Exception):
    """An object is no longer what was listed."""


@dataclass(frozen=True)
class Object:
    """One object as it was listed. `tag` changes with its content; `modified_ns` is Unix time."""

    size: int
    modified_ns: int
    tag: str


class Store:
    """Objects below one URI. `endpoint` and `settings` say, in a fault, who was asked and where that is set."""

    def __init__(self, uri: str, connect: Callable[[], ObjectStore], endpoint: str, settings: str) -> None:
        self.uri, self.endpoint = uri, endpoint
        self._connect, self._settings = connect, settings

    @cached_property
    def _objects(self) -> ObjectStore:
        return self._connect()

    def list(self) -> dict[str, Object]:
        """All objects by their path below the URI. Raises `StoreError`; never gives a part."""
        found: dict[str, Object] = {}
        try:
            for page in self._objects.list(chunk_size=PAGE):
                found.update((meta["path"], _object(meta)) for meta in page)
        except (BaseError, OSError, ValueError) as error:
            raise self._translated(error) from error
        return found

    def read(self, path: str, known: Object, into: Path, came: Callable[[int], None]) -> None:
        """Writes an object to a file and tells how many bytes came. Raises `Changed` or `StoreError`."""
        try:
            answer = self._objects.get(path)
            if not _same(_object(answer.meta), known):
                raise Changed(path)
            with into.open("wb") as file:
                for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
                    file.write(chunk)
                    came(len(chunk))
        except FileNotFoundError:
            raise Changed(path) from None
        except (BaseError, ValueError) as error:
            raise self._translated(error, path) from error
        if into.stat().st_size != known.size:
            raise Changed(path)

    def _translated(self, error: Exception, path: str = "") -> StoreError:
        reason, refused = _reason(error), isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if refused or reason.startswith(("401", "403")):
            what = f"refuses {path or 'a list of what is there'}: {reason}"
        elif reason.startswith("404"):
            what = f"has no such bucket: {reason}"
        else:
            what = f"does not answer: {reason}"
        return StoreError(self.uri, f"{self.endpoint} {what}; {self._settings}", away=not (path and refused))


def open_store(uri: str) -> Store:
    """The store of a URI; endpoint and keys come from the usual variables. Raises `ValueError`; calls nobody yet."""
    scheme, bucket, path = split(uri)
    if scheme == "file":
        folder = Path("/") / path
        return Store(uri, lambda: LocalStore(folder), str(folder), "want a folder that can be read")
    return _s3(uri, bucket, path) if scheme == "s3" else _gcs(uri, bucket, path)


def _s3(uri: str, bucket: str, path: str) -> Store:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = next((os.environ[name] for name in names if os.environ.get(name)), "")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    where = endpoint or f"https://s3.{region}.amazonaws.com"

    def connect() -> ObjectStore:
        return S3Store(bucket, prefix=path or None, client_options=_client(where), retry_config=_retry())

    say = "AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say where it is and who asks"
    return Store(uri, connect, where, say)


def _gcs(uri: str, bucket: str, path: str) -> Store:
    where = os.environ.get("GOOGLE_BASE_URL") or "https://storage.googleapis.com"

    def connect() -> ObjectStore:
        return GCSStore(bucket, prefix=path or None, client_options=_client(where), retry_config=_retry())

    return Store(uri, connect, where, "GOOGLE_APPLICATION_CREDENTIALS names the key of who asks")


def _client(endpoint: str) -> ClientConfig:
    return {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "read_timeout": timedelta(seconds=SILENCE_S),
        "timeout": timedelta(seconds=WHOLE_S),
    }


def _retry() -> RetryConfig:
    return {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)}


def _object(meta: ObjectMeta) -> Object:
    modified, size = meta["last_modified"], meta["size"]
    modified_ns = (modified - _EPOCH) // timedelta(microseconds=1) * 1000
    return Object(size, modified_ns, meta["e_tag"] or f"{modified_ns}-{size}")


def _same(one: Object, other: Object) -> bool:
    """Whether two answers are about the same content; some servers quote tags in one kind of answer only."""
    if one.size != other.size:
        return False
    return one.tag.strip('"') == other.tag.strip('"') or one.modified_ns // 10**9 == other.modified_ns // 10**9


def _reason(error: Exception) -> str:
    """What is wrong in a few words that stay the same from try to try: no times, no request ids."""
    text = str(error)
    found = [*_STATUS.findall(text)[:1], *_CODE.findall(text)[:1]]
    found = found or [system or lookup for system, lookup in _SYSTEM.findall(text)[-1:]]
    first = text.partition("\n")[0]
    return ", ".join(part.strip() for part in found) or re.sub(r" in [\d.]+[mµn]?s", "", first).strip()
