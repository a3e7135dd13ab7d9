"""Fake of S3 and GCS over HTTP, for faults that a real store cannot be made to show."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import trustme

TIME = "2026-11-28T22:00:00.000Z", "Sat, 28 Nov 2026 22:00:00 GMT"


@dataclass
class Kept:
    """One object; `tag` and `listed_size` appear in the listing, and `answer` replaces the content."""

    content: bytes
    tag: str | None = None
    listed_size: str = ""
    answer: Callable[[BaseHTTPRequestHandler], None] | None = None


@dataclass
class FaultyStore:
    """The bucket `models`. Keys are arbitrary text; a listing has `page` keys per answer."""

    port: int
    objects: dict[str, Kept] = field(default_factory=dict)
    page: int = 1000
    escapes: bool = True
    raw: bytes | None = None  # instead of a listing
    wire: list[bytes] = field(default_factory=list)  # instead of the next listings, with HTTP's head
    read: list[str] = field(default_factory=list)
    listings: int = 0
    scheme: str = "http"
    keys: set[str] = field(default_factory=set)  # access keys that are valid; none: all are
    callers: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def admits(self, caller: str) -> bool:
        """Whether an access key is valid. It is recorded."""
        self.callers.append(caller)
        return not self.keys or caller in self.keys

    def put(self, key: str, content: str | bytes = "content", **more: object) -> None:
        self.objects[key] = Kept(content.encode() if isinstance(content, str) else content, **more)  # type: ignore[arg-type]

    def listing(self, prefix: str, token: str, *, asked: bool) -> bytes:
        """Listing in XML. Keys are escaped if the client asks for it and the store supports it."""
        self.listings += 1
        escapes = asked and self.escapes
        if self.raw is not None:
            return self.raw
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > token)
        rows = "".join(self._row(key, self.objects[key], escapes) for key in keys[: self.page])
        more = keys[self.page :]
        end = f"<NextContinuationToken>{quote(keys[self.page - 1])}</NextContinuationToken>" if more else ""
        kind = "<EncodingType>url</EncodingType>" if escapes else ""
        head = f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{kind}{end}"
        return f"<?xml version='1.0'?><ListBucketResult>{head}{rows}</ListBucketResult>".encode(errors="replace")

    def _row(self, key: str, kept: Kept, escapes: bool) -> str:
        escaped = quote(key.encode(errors="surrogateescape"), safe="/").replace("%20", "+")
        name = escaped if escapes else escape(key)
        tag = f"<ETag>{escape(self.tag(kept))}</ETag>" if self.tag(kept) else ""
        size = kept.listed_size or str(len(kept.content))
        return f"<Contents><Key>{name}</Key><LastModified>{TIME[0]}</LastModified>{tag}<Size>{size}</Size></Contents>"

    @staticmethod
    def tag(kept: Kept) -> str:
        return f'"{hash(kept.content) & 0xFFFFFFFF:x}"' if kept.tag is None else kept.tag


class _Handler(BaseHTTPRequestHandler):
    store: FaultyStore
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Suppress the request log."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query, (_, bucket, path) = parse_qs(url.query), f"{unquote(url.path)}/".split("/", 2)
        path = path.removesuffix("/")
        if bucket != "models":
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>", {})
            return
        if not self.store.admits(self.caller(query)):
            self.answer(403, b"<Error><Code>InvalidAccessKeyId</Code></Error>", {})
            return
        if "list-type" in query and self.store.wire:
            self.wfile.write(self.store.wire.pop(0))
            self.close_connection = True
            return
        if "list-type" in query:
            token = unquote(query.get("continuation-token", query.get("start-after", [""]))[0])
            self.answer(
                200, self.store.listing(query.get("prefix", [""])[0], token, asked="encoding-type" in query), {}
            )
            return
        self.store.read.append(path)
        kept = self.store.objects.get(path)
        if kept is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>", {})
        elif kept.answer is not None:
            kept.answer(self)
        elif self.headers.get("If-Match") not in (None, self.store.tag(kept)):
            self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>", {})
        else:
            self.answer(200, kept.content, {"ETag": self.store.tag(kept), "Last-Modified": TIME[1]})

    def caller(self, query: dict[str, list[str]]) -> str:
        """The access key of a signed URL or header, or the bearer token."""
        header = self.headers.get("Authorization", "")
        if header.startswith("Bearer "):
            return header.removeprefix("Bearer ")
        signed = query.get("X-Amz-Credential", query.get("X-Goog-Credential", [header.partition("Credential=")[2]]))
        return signed[0].partition("/")[0]

    def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def refused(handler: BaseHTTPRequestHandler) -> None:
    """Answer this object with 403."""
    handler.answer(403, b"<Error><Code>AccessDenied</Code></Error>", {})  # type: ignore[attr-defined]


def invalid(handler: BaseHTTPRequestHandler) -> None:
    """Answer this object with a server fault; not with 500, which obstore retries for ten seconds."""
    handler.answer(400, b"<Error><Code>KMS.DisabledException</Code></Error>", {})  # type: ignore[attr-defined]


def unpacked(handler: BaseHTTPRequestHandler) -> None:
    """Answer like GCS for an object with `Content-Encoding: gzip`: decompressed, in chunks, without a length."""
    handler.send_response(200)
    for name, value in (("Transfer-Encoding", "chunked"), ("ETag", '"1"'), ("Last-Modified", TIME[1])):
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(b"8\r\nunpacked\r\n0\r\n\r\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Suppress the traces of callers that refuse the certificate."""


@contextmanager
def faulty_store(certificate: trustme.LeafCert | None = None) -> Iterator[FaultyStore]:
    """A running store, over TLS if it has a certificate."""
    server = _Server(("127.0.0.1", 0), _Handler)
    store = FaultyStore(server.server_address[1])
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        store.scheme = "https"
    server.RequestHandlerClass = type("Handler", (_Handler,), {"store": store})
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
