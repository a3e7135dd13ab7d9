"""An object store by its URI: listings and downloads. Only this module imports obstore."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import GCSStore, LocalStore, S3Store

from controller.store import listing
from controller.store.listing import Item
from controller.store.uri import split

if TYPE_CHECKING:
    from obstore import BytesStream, GetOptions, ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

PAGE_ITEMS = 1000  # in one answer of S3
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
CHUNK_BYTES = 1 << 20
# A fault is reported within seconds, and the next scan retries. A large file may take long, but must not stall.
CONNECT_S, SILENCE_S, WHOLE_S, RETRY_S, RETRIES = 5, 30, 3600, 10, 3

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATUS = re.compile(r"status code: (\d{3}[A-Za-z ]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_SYSTEM = re.compile(r'message: "([^"]+)"|error: "((?:failed to lookup|dns)[^"]+)"')


class StoreError(OSError):
    """A call to the store failed. `filename` is its URI, `strerror` has the reason and the remedy.

    `unavailable`: other calls would fail now as well.
    """

    def __init__(self, uri: str, why: str, *, unavailable: bool = True) -> None:
        super().__init__(errno.EIO, why, uri)
        self.unavailable = unavailable

    def __str__(self) -> str:
        return f"{self.filename}: cannot be read: {self.strerror}"


class ObjectChanged(Exception):
    """An object differs from its listing."""


@dataclass(frozen=True)
class Object:
    """One object as it was listed. `tag` changes with its content; '' if the store has none.

    `modified_ns` is Unix time by the clock of the store.
    """

    size: int
    modified_ns: int
    tag: str

    @property
    def digest(self) -> str:
        """The digest by tag, else by size and time."""
        tag = self.tag.strip('"')
        return f"etag:{tag}" if tag else f"stat:{self.size}-{self.modified_ns}"

    @property
    def condition(self) -> GetOptions:
        """The condition of a download of this content only; none for a weak tag, which never matches."""
        if not self.tag or self.tag.startswith("W/"):
            return {}
        return {"if_match": self.tag if self.tag.startswith('"') else f'"{self.tag}"'}

    def same(self, other: Object) -> bool:
        """Whether two answers describe one content. Some servers quote tags in one kind of answer only.

        Without tags times are compared in seconds, for some answers have no fractions.
        """
        if self.size != other.size:
            return False
        if self.tag and other.tag:
            return self.tag.removeprefix("W/").strip('"') == other.tag.removeprefix("W/").strip('"')
        return self.modified_ns // 10**9 == other.modified_ns // 10**9


Page = list[Item]
ListPages = Callable[[str], Iterator[Page]]  # lists the items whose path below the URI begins with a text


class Store:
    """Objects below one URI. Faults name the `endpoint` and the `settings` that configure it.

    `pages` lists the objects; obstore does by default.
    """

    def __init__(self, uri: str, connect: Callable[[], ObjectStore], endpoint: str, settings: str) -> None:
        self.uri, self.endpoint = uri, endpoint
        self.pages: ListPages = self.obstore_pages
        self._connect, self._settings = connect, settings

    @cached_property
    def _objects(self) -> ObjectStore:
        return self._connect()

    def list(self, below: str = "") -> dict[str, Object]:
        """All objects whose path below the URI begins with `below`, never a part of them. Raises `StoreError`."""
        found: dict[str, Object] = {}
        try:
            for page in self.pages(below):
                found.update((item.key, Object(item.size, item.modified_ns, item.tag)) for item in page)
        except (BaseError, OSError, ValueError, TypeError) as error:
            raise self._translated(error) from error
        found.pop("", None)  # the marker of the URI's own folder
        return found

    def answers(self) -> bool:
        """Whether the store can be listed now."""
        try:
            next(self.pages(""), None)
        except (BaseError, OSError, ValueError, TypeError):
            return False
        return True

    def read(self, path: str, known: Object, into: Path, on_bytes: Callable[[int], None]) -> None:
        """Download an object into a file, counted by `on_bytes`. Raises `ObjectChanged` or `StoreError`."""
        try:
            answer = self._objects.get(path, options=known.condition)
            if not _object(answer.meta).same(known):
                raise ObjectChanged(path)
            self._write(path, answer.stream(min_chunk_size=CHUNK_BYTES), known, into, on_bytes)
        except (FileNotFoundError, PreconditionError):
            raise ObjectChanged(path) from None
        except (BaseError, ValueError, TypeError) as error:
            raise self._translated(error, path) from error

    @staticmethod
    def _write(path: str, chunks: BytesStream, known: Object, into: Path, on_bytes: Callable[[int], None]) -> None:
        """Write at most the listed size: an endless body would fill the disk."""
        left = known.size
        with into.open("wb") as file:
            for chunk in chunks:
                left -= len(chunk)
                if left < 0:
                    raise ObjectChanged(path)
                file.write(chunk)
                on_bytes(len(chunk))
        if left:
            raise ObjectChanged(path)

    def obstore_pages(self, below: str) -> Iterator[Page]:
        """Pages by obstore, which lists by whole parts of a path."""
        for page in self._objects.list(prefix=below.rpartition("/")[0] or None, chunk_size=PAGE_ITEMS):
            found = {meta["path"]: _object(meta) for meta in page}
            yield [
                Item(path, known.size, known.modified_ns, known.tag)
                for path, known in found.items()
                if path.startswith(below)
            ]

    def _translated(self, error: Exception, path: str = "") -> StoreError:
        reason, refused = _reason(error), isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if refused or reason.startswith(("401", "403")):
            what = f"refuses {path or 'a list of what is there'}: {reason}"
        elif reason.startswith("404"):
            what = f"has no such bucket: {reason}"
        else:
            what = f"does not answer: {reason}"
        return StoreError(self.uri, f"{self.endpoint} {what}; {self._settings}", unavailable=not (path and refused))


def open_store(uri: str) -> Store:
    """The store of a URI, configured by the usual variables. Makes no call yet. Raises `ValueError`."""
    scheme, bucket, path = split(uri)
    if scheme == "file":
        folder = Path("/") / path
        store = Store(uri, lambda: LocalStore(folder), str(folder), "want a folder that can be read")
        store.pages = partial(_walk, folder)
        return store
    return _s3(uri, bucket, path) if scheme == "s3" else _gcs(uri, bucket, path)


def _s3(uri: str, bucket: str, path: str) -> Store:
    endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    where = endpoint or f"https://s3.{region}.amazonaws.com"

    def connect() -> ObjectStore:
        return S3Store(bucket, prefix=path or None, client_options=_client(where), retry_config=_retry())

    def sign(query: str) -> str:
        """Sign a query. It is passed as the end of the endpoint; the path that obstore appends becomes a fragment."""
        own = endpoint and _is_on(
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST"
        )  # such an endpoint contains the name of the bucket
        url = f"{where.rstrip('/')}/{'' if own else quote(bucket)}?{query}#"
        if _is_on("AWS_SKIP_SIGNATURE"):
            return url
        signer = S3Store(bucket, endpoint=url, virtual_hosted_style_request=True, client_options=_client(where))
        return obstore.sign(signer, "GET", "list", listing.SIGNED_FOR)

    settings = "AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY configure it"
    store = Store(uri, connect, where, settings)
    store.pages = _below(path, sign)
    return store


def _gcs(uri: str, bucket: str, path: str) -> Store:
    where = os.environ.get("GOOGLE_BASE_URL") or "https://storage.googleapis.com"

    def connect() -> ObjectStore:
        return GCSStore(bucket, prefix=path or None, client_options=_client(where), retry_config=_retry())

    def sign(query: str) -> str:
        url = f"{where.rstrip('/')}/{quote(bucket)}?{query}#"
        if _is_on("GOOGLE_SKIP_SIGNATURE"):
            return url
        signer = GCSStore(bucket, config={"base_url": url}, client_options=_client(where))
        return obstore.sign(signer, "GET", "list", listing.SIGNED_FOR)

    store = Store(uri, connect, where, "GOOGLE_APPLICATION_CREDENTIALS names the key of who asks")
    signed = _below(path, sign)

    def pages(below: str) -> Iterator[Page]:
        """Pages by obstore; by a signed URL only if obstore fails, for it needs a key or the right to sign."""
        try:
            yield from store.obstore_pages(below)
        except InvalidPathError as error:
            try:
                yield from signed(below)
            except BaseError:
                raise ValueError(f"{_reason(error)}; delete it, or let the account sign URLs") from error

    store.pages = pages
    return store


def _below(folder: str, sign: listing.Sign) -> ListPages:
    """List a folder of the bucket, with paths relative to it."""
    prefix = f"{folder}/" if folder else ""

    def pages(below: str) -> Iterator[Page]:
        for page in listing.pages(sign, prefix + below):
            yield [replace(item, key=item.key.removeprefix(prefix)) for item in page]

    return pages


def _walk(root: Path, below: str) -> Iterator[Page]:
    """List the files of a folder. A subfolder that cannot be listed is an item without a size. Raises `OSError`."""
    os.scandir(root).close()
    lost: list[OSError] = []
    for folder, _, names in os.walk(root, onerror=lost.append):
        items = [_file(root, Path(folder, name)) for name in names]
        yield [item for item in items if item.key.startswith(below)]
    yield [Item(Path(error.filename).relative_to(root).as_posix(), -1, 0, "") for error in lost]


def _file(root: Path, path: Path) -> Item:
    key = path.relative_to(root).as_posix()
    try:
        status = path.stat()
    except OSError:  # a link to nothing, or deleted at this moment
        return Item(key, -1, 0, "")
    return Item(key, status.st_size if path.is_file() else -1, status.st_mtime_ns // 1000 * 1000, "")


def _is_on(variable: str) -> bool:
    """Whether a boolean variable of obstore is true."""
    return os.environ.get(variable, "").lower() in ("true", "1", "yes", "on", "y")


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
    modified_ns = (meta["last_modified"] - _EPOCH) // timedelta(microseconds=1) * 1000
    return Object(meta["size"], modified_ns, meta["e_tag"] or "")


def _reason(error: Exception) -> str:
    """The reason in a few words, the same in every try: without times and request ids."""
    text = str(error)
    found = [*_STATUS.findall(text)[:1], *_CODE.findall(text)[:1]]
    found = found or [system or lookup for system, lookup in _SYSTEM.findall(text)[-1:]]
    first = text.partition("\n")[0]
    return ", ".join(part.strip() for part in found) or re.sub(r" in [\d.]+[mµn]?s", "", first).strip()
