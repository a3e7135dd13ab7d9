"""Forward proxy that records what it was asked for, and leads every name to one port of this machine."""

from __future__ import annotations

import base64
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
NO_PROXY = "localhost.example,.svc,.cluster.local,10.0.0.0/8,198.18.0.0/15"  # as clusters usually have it


@dataclass
class HttpProxy:
    """A proxy at `url`. `asked` has the method and host of each request, `words` the credentials of callers."""

    port: int
    target_port: int
    asked: list[str] = field(default_factory=list)
    words: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """All variables by which a cluster announces its proxy, with the usual exceptions."""
        return dict.fromkeys(VARIABLES, self.url) | {"no_proxy": NO_PROXY, "NO_PROXY": NO_PROXY}


class _Handler(BaseHTTPRequestHandler):
    proxy: HttpProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Suppress the request log."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self._record(url.netloc)
        beyond = HTTPConnection("127.0.0.1", self.proxy.target_port, timeout=10)
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        beyond.request("GET", self.path.removeprefix(f"{url.scheme}://{url.netloc}"), headers=headers)
        answer = beyond.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        beyond.close()

    def do_CONNECT(self) -> None:
        self._record(self.path)
        with socket.create_connection(("127.0.0.1", self.proxy.target_port), 10) as beyond:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                _relay(self.connection, beyond)
        self.close_connection = True

    def _record(self, host: str) -> None:
        self.proxy.asked.append(f"{self.command} {host}")
        if word := self.headers.get("Proxy-Authorization", ""):
            self.proxy.words.add(base64.b64decode(word.removeprefix("Basic ")).decode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Suppress the traces of targets that do not listen."""


def _relay(one: socket.socket, other: socket.socket) -> None:
    while True:
        readable, _, _ = select.select([one, other], [], [], 10)
        if not readable:
            return
        for source in readable:
            data = source.recv(65536)
            if not data:
                return
            (other if source is one else one).sendall(data)


@contextmanager
def http_proxy(target_port: int = 1) -> Iterator[HttpProxy]:
    """A running proxy in front of a port of this machine; by default nobody listens there."""
    server = _Server(("127.0.0.1", 0), _Handler)
    proxy = HttpProxy(server.server_address[1], target_port)
    server.RequestHandlerClass = type("Handler", (_Handler,), {"proxy": proxy})
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
