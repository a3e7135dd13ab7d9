"""An object store by its URI: listings and downloads, by a connection that follows renewed keys and authorities."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError

from controller.store.listing import Item
from controller.store.options import StoreConfiguration, StoreOptions

if TYPE_CHECKING:
    from obstore import BytesStream, GetOptions, ObjectMeta
    from obstore.store import ObjectStore

PAGE_ITEMS = 1000  # in one answer of S3
CHUNK_BYTES = 1 << 20
MAX_FOLDER_OBJECTS = 100_000  # half a kilobyte each: a million took the memory that the chart gives
MAX_LISTING_S = 600.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATUS = re.compile(r"status code: (\d{3}[A-Za-z ]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_SYSTEM = re.compile(r'message: "([^"]+)"|error: "((?:failed to lookup|dns)[^"]+)"')
_RUSTLS = re.compile(r"InvalidCertificate\(\s*(\w+)")
# The same cause, in words that change from try to try.
_BROKEN = {"Connection reset by peer", "Remote end closed connection without response", "Broken pipe"}
_OPENSSL = re.compile(r"certificate verify failed: ([^(]+)")
CA_REMEDY = "models.ca, --ca or CONTROLLER_STORE_CA names authorities to trust beside the public ones"

log = logging.getLogger(__name__)


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


@dataclass(frozen=True, slots=True)
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


def folder_of(key: str) -> str:
    """The first folder of a key, which is that of a model; '' for an object beside the models."""
    return key.partition("/")[0] if "/" in key else ""


Page = list[Item]
# Lists the items whose path below the URI begins with the first text, those behind the second one.
ListPages = Callable[[str, str], Iterator[Page]]


@dataclass(frozen=True)
class StoreConnection:
    """The objects below a URI, by one configuration. `pages` lists them; obstore does if it is None.

    is_ordered: listings are in the order of the keys, as S3 and GCS have them.
    """

    objects: ObjectStore
    pages: ListPages | None = None
    is_ordered: bool = True


class Location(Protocol):
    """A folder of a bucket. Faults name the `remedy`, a sentence about what configures it."""

    @property
    def remedy(self) -> str: ...

    def endpoint(self, configuration: StoreConfiguration) -> str:
        """The address of the store, for faults."""

    def connect(self, configuration: StoreConfiguration) -> StoreConnection:
        """A new connection. Makes no call. Raises `BaseError`, `ValueError` and `TypeError`."""


class Store:
    """Objects below one URI. Each listing begins with the keys and authorities of that moment."""

    def __init__(self, uri: str, location: Location, options: StoreOptions | None = None) -> None:
        self.uri = uri
        self._location, self._options = location, options or StoreOptions()
        self._configuration = StoreConfiguration(proxy=self._options.proxy)
        self._connection: StoreConnection | None = None

    @property
    def endpoint(self) -> str:
        """The address of the store."""
        return self._location.endpoint(self._configuration)

    def list(self, below: str = "") -> dict[str, Object]:
        """All objects whose path below the URI begins with `below`, never a part of them. Raises `StoreError`.

        Of a folder at most `MAX_FOLDER_OBJECTS` and one more are kept: somebody's data set may lie among the models.
        """
        found, after = _Listing(self._options.max_objects), ""
        try:
            while self._add_pages(found, below, after):
                after = found.behind_the_folder
        except StoreError:
            raise
        except (BaseError, OSError, ValueError, TypeError) as error:
            raise self._translated(error) from error
        found.objects.pop("", None)  # the marker of the URI's own folder
        return found.objects

    def _add_pages(self, found: _Listing, below: str, after: str) -> bool:
        """Add pages up to a folder that has too many objects. Return whether the listing goes on behind it."""
        for page in self._pages(below, after):
            found.add(page)
            if fault := found.fault:
                raise StoreError(self.uri, f"{self.endpoint}: {fault}; move what is no model elsewhere")
            if found.is_full and self._connection and self._connection.is_ordered:
                return True
        return False

    def answers(self) -> bool:
        """Whether the store can be listed now."""
        try:
            next(self._pages("", ""), None)
        except (BaseError, OSError, ValueError, TypeError):
            return False
        return True

    def read(self, path: str, known: Object, into: Path, on_bytes: Callable[[int], None]) -> None:
        """Download an object into a file, counted by `on_bytes`. Raises `ObjectChanged` or `StoreError`."""
        try:
            connection = self._connection or self._connected()
            answer = connection.objects.get(path, options=known.condition)
            if not object_of(answer.meta).same(known):
                raise ObjectChanged(path)
            self._write(path, answer.stream(min_chunk_size=CHUNK_BYTES), known, into, on_bytes)
        except (FileNotFoundError, PreconditionError):
            raise ObjectChanged(path) from None
        except (BaseError, OSError, ValueError, TypeError) as error:
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

    def _pages(self, below: str, after: str) -> Iterator[Page]:
        connection = self._connected()
        return connection.pages(below, after) if connection.pages else obstore_pages(connection.objects, below, after)

    def _connected(self) -> StoreConnection:
        """The connection by the configuration of this moment. Raises as `Location.connect`, and `OSError`."""
        configuration = self._options.read()
        connection = self._connection
        if connection is None or configuration != self._configuration:
            renewed, self._configuration, self._connection = connection is not None, configuration, None
            connection = self._connection = self._location.connect(configuration)
            if renewed:
                log.info("store keys or authorities renewed", extra={"store": self.uri})
        return connection

    def _translated(self, error: Exception, path: str = "") -> StoreError:
        where, remedy = self.endpoint, self._location.remedy
        reason, refused = reason_of(error), isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if certificate := _certificate_fault(error):
            what, remedy = f"shows a certificate that is refused: {certificate}", CA_REMEDY
        elif refused or reason.startswith(("401", "403")):
            what = f"refuses {path or 'a list of what is there'}: {reason}"
        elif reason.startswith("404"):
            what = f"has no such bucket: {reason}"
        else:
            proxy = self._configuration.printable_proxy
            what = f"does not answer{f' through proxy {proxy}' if proxy else ''}: {reason}"
        return StoreError(self.uri, f"{where} {what}; {remedy}", unavailable=not (path and refused))


class _Listing:
    """Objects of a listing, within limits of number and time."""

    def __init__(self, max_objects: int) -> None:
        self.objects: dict[str, Object] = {}
        self._max_objects = max_objects
        self._counts = Counter[str]()
        self._until_s = time.monotonic() + MAX_LISTING_S
        self._last = ""  # key of the last item
        self._is_ordered = True

    def add(self, page: Page) -> None:
        for item in page:
            folder = folder_of(item.key)
            self._counts[folder] += 1
            if self._counts[folder] <= MAX_FOLDER_OBJECTS + 1:
                self.objects[item.key] = Object(item.size, item.modified_ns, item.tag)
            self._is_ordered = self._is_ordered and self._last <= item.key
            self._last = item.key

    @property
    def fault(self) -> str:
        """The limit that is exceeded; '' if none is."""
        if len(self.objects) > self._max_objects:
            return f"want at most {self._max_objects} objects (models.maxObjects, --max-objects), got more"
        if time.monotonic() > self._until_s:
            return f"want a listing within {MAX_LISTING_S:g} s, got {len(self.objects)} objects and no end"
        return ""

    @property
    def is_full(self) -> bool:
        """Whether the folder of the last item has too many objects, and the next one can be asked for."""
        folder = folder_of(self._last)
        return bool(folder) and self._is_ordered and self._counts[folder] > MAX_FOLDER_OBJECTS

    @property
    def behind_the_folder(self) -> str:
        """A text behind all keys of the folder of the last item: '0' follows the slash."""
        return f"{folder_of(self._last)}0"


def obstore_pages(objects: ObjectStore, below: str, after: str) -> Iterator[Page]:
    """Pages by obstore, which lists by whole parts of a path."""
    for page in objects.list(prefix=below.rpartition("/")[0] or None, offset=after or None, chunk_size=PAGE_ITEMS):
        found = {meta["path"]: object_of(meta) for meta in page}
        yield [
            Item(path, known.size, known.modified_ns, known.tag)
            for path, known in found.items()
            if path.startswith(below)
        ]


def object_of(meta: ObjectMeta) -> Object:
    """The object that obstore describes."""
    modified_ns = (meta["last_modified"] - _EPOCH) // timedelta(microseconds=1) * 1000
    return Object(meta["size"], modified_ns, meta["e_tag"] or "")


def reason_of(error: Exception) -> str:
    """The reason in a few words, the same in every try: without times and request ids."""
    text = str(error)
    found = [*_STATUS.findall(text)[:1], *_CODE.findall(text)[:1]]
    found = found or [system or lookup for system, lookup in _SYSTEM.findall(text)[-1:]]
    first = text.partition("\n")[0]
    reason = ", ".join(part.strip() for part in found) or re.sub(r" in [\d.]+[mµn]?s", "", first).strip()
    return "the connection broke" if reason in _BROKEN else reason


def _certificate_fault(error: Exception) -> str:
    """Why the certificate of the store was refused; '' for another error."""
    text = str(error)
    if found := _OPENSSL.search(text):
        return found[1].strip().rstrip(".")
    if found := _RUSTLS.search(text):
        return " ".join(word.lower() for word in re.findall(r"[A-Z][a-z]*", found[1]) if word != "Context")
    return ""
