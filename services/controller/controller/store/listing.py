"""Listings of a bucket by the S3 API, with the keys as the store has them.

obstore refuses a whole page for one key that is no path (`a//b`), and returns the folder marker `m/2/` as the file
`m/2`. Therefore the listing is parsed here. obstore signs its URL, for it supports every kind of credentials.
"""

from __future__ import annotations

import re
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, IncompleteRead
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, unquote_to_bytes, urlencode, urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener
from xml.etree import ElementTree

import certifi

ANSWER_S = 30.0  # between two bytes
PAGE_S = 60.0
TRIES, FIRST_PAUSE_S = 3, 0.3
# 1,000 keys of 1,024 bytes, each byte as an escape of three, are 3 MiB. A page of 8 MiB takes at most 1 s and 400 MiB.
MAX_PAGE_BYTES = 8 << 20
BUSY = (429, 500, 502, 503, 504)

_NO_XML = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|&#(?:x0*1?[0-9a-fA-F]|0*[12]?[0-9]|0*3[01]);")
_KEPT = (b"&#x9;", b"&#xA;", b"&#xD;", b"&#9;", b"&#10;", b"&#13;")
_SIZE = re.compile("[0-9]{1,18}")
UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # replaces characters that XML forbids: not every store escapes keys

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Sign = Callable[[str], str]  # the URL of a listing with this query


@dataclass(frozen=True)
class Item:
    """One object of a listing. `size` is -1 if the listing has no number; `tag` may be empty."""

    key: str
    size: int
    modified_ns: int
    tag: str


class HttpClient:
    """Trusts `authorities` (PEM) beside the public ones. `proxy` is http://host:port, '' is none.

    It does not read the proxy of the environment. Raises `ValueError` if the authorities are no certificates.
    """

    def __init__(self, authorities: bytes = b"", proxy: str = "") -> None:
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        if authorities:
            try:
                context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
            except ssl.SSLError as error:
                raise ValueError(f"want authorities as certificates in PEM: {error.strerror}") from None
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
        self._proxy = urlsplit(proxy)

    def open(self, url: str) -> Any:
        """The answer to a GET. Raises `OSError`."""
        request, proxy = Request(url), self._proxy
        if proxy.hostname:
            if proxy.username:
                user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
                request.add_header("Proxy-Authorization", f"Basic {b64encode(user.encode()).decode()}")
            request.set_proxy(proxy.netloc.rpartition("@")[2], proxy.scheme)
        return self._opener.open(request, timeout=ANSWER_S)


def pages(sign: Sign, prefix: str, client: HttpClient, after: str = "") -> Iterator[list[Item]]:
    """All objects whose key begins with `prefix`, those behind `after`. Raises `OSError` and `ValueError`."""
    token, tokens = "", set[str]()
    while True:
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
        if token or after:
            query |= {"continuation-token": token} if token else {"start-after": after}
        url = sign(urlencode(query))
        page = ListingPage(_fetch(client, url))
        yield page.items
        if not page.next_token:
            return
        if page.next_token in tokens:
            raise ValueError("the listing does not end: two pages have the same continuation token")
        token = page.next_token
        tokens.add(token)


class ListingPage:
    """One page of a listing. Raises `ValueError` if the answer is no listing."""

    def __init__(self, data: bytes) -> None:
        try:
            root = ElementTree.fromstring(_NO_XML.sub(_as_xml, data))
        except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: an unknown encoding
            raise ValueError(f"the answer is no listing: {error}") from None
        if _name(root) != "ListBucketResult":
            raise ValueError(f"the answer is no listing: want ListBucketResult, got {_name(root)[:40]}")
        fields = {_name(child): child.text or "" for child in root}
        escaped = fields.get("EncodingType", "").lower() == "url"
        self.items = [_item(child, escaped) for child in root if _name(child) == "Contents"]
        is_truncated = fields.get("IsTruncated", "").strip().lower() == "true"
        self.next_token = fields.get("NextContinuationToken", "") if is_truncated else ""
        if is_truncated and not self.next_token:  # all that follows would count as deleted
            raise ValueError("the listing is truncated and has no NextContinuationToken; want ListObjectsV2")


def _item(content: ElementTree.Element, escaped: bool) -> Item:
    fields = {_name(child): child.text or "" for child in content}
    key = fields.get("Key", "")
    if escaped:  # a space is '+', as in botocore
        key = unquote_to_bytes(key.replace("+", " ")).decode(errors="surrogateescape")
    size = fields.get("Size", "")
    size_bytes = int(size) if _SIZE.fullmatch(size) else -1
    return Item(key, size_bytes, _time_ns(fields.get("LastModified", "")), fields.get("ETag", "").strip())


def _time_ns(text: str) -> int:
    """Time in ns since 1970; 0 if it cannot be parsed."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _as_xml(found: re.Match[bytes]) -> bytes:
    return found[0] if found[0] in _KEPT else UNKNOWN.encode()


def _name(element: ElementTree.Element) -> str:
    """The tag of an element without its namespace, which not every store writes."""
    return element.tag.rpartition("}")[2]


def _fetch(client: HttpClient, url: str) -> bytes:
    """Fetch a page, with retries while the store is busy. Raises `OSError` without the URL, which has a signature."""
    pause_s = FIRST_PAUSE_S
    for left in reversed(range(TRIES)):
        try:
            with client.open(url) as answer:
                return _read(answer)
        except HTTPError as error:
            if error.code not in BUSY or not left:
                raise OSError(f"status code: {error.code} {error.reason}: {_body(error)}") from None
        except URLError as error:
            if not left:
                cause = error.reason
                raise OSError(getattr(cause, "strerror", None) or str(cause)) from None
        except (OSError, HTTPException) as error:  # the latter: the answer was cut off, or is not HTTP
            if not left:
                raise OSError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from None
        time.sleep(pause_s)
        pause_s *= 2
    raise AssertionError("unreachable")


def _read(answer: Any) -> bytes:
    """The page of an answer. Raises `OSError` for one that comes too slowly, and `ValueError` for too large a one."""
    data, until_s = bytearray(), time.monotonic() + PAGE_S
    while part := answer.read1(MAX_PAGE_BYTES):
        data += part
        if len(data) > MAX_PAGE_BYTES:
            raise ValueError(f"a page of the listing is larger than {MAX_PAGE_BYTES} bytes")
        if time.monotonic() > until_s:
            raise TimeoutError(f"a page of the listing takes more than {PAGE_S:g} s")
    if answer.length:  # read1 takes the end of the connection for that of the answer
        raise IncompleteRead(bytes(data[:0]), answer.length)
    return bytes(data)


def _body(error: HTTPError) -> str:
    """The beginning of the store's own words; '' if they are cut off."""
    try:
        return error.read(2000).decode(errors="replace")
    except (OSError, HTTPException):
        return ""
