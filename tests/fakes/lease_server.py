"""Fake Kubernetes API server for the leader election of two controllers: objects over HTTP.

Objects have a resource version, and a replacement must name the latest. Watches stay open without events. Tests on a
real API server are in tests/e2e.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{server}"}}}}]
users: [{{name: test, user: {{token: none}}}}]
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
"""


class LeaseServer:
    """HTTP server with objects by path, for the duration of the block."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self._lock = threading.Lock()
        self._revision = 0
        self._stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> LeaseServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig of this server."""
        path.write_text(KUBECONFIG.format(server=f"http://127.0.0.1:{self._server.server_port}"))
        return path

    def leader(self) -> str:
        """Holder of the only lease; empty if there is none."""
        with self._lock:
            leases = [each for path, each in self.objects.items() if "/leases/" in path]
        return str(leases[0]["spec"].get("holderIdentity") or "") if leases else ""

    def answer(self, method: str, path: str, body: Json) -> tuple[int, Json]:
        """HTTP status and object of a request."""
        with self._lock:
            self._revision += 1
            known = self.objects.get(path)
            match method:
                case "POST":
                    path = f"{path}/{body['metadata']['name']}"
                    known = self.objects.get(path)
                    if known is not None:
                        return 409, {"message": "it is there already"}
                case "PUT":
                    if known is None or known["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
                        return 409, {"message": "it has changed"}
                case "GET" if known is not None:
                    return 200, known
                case "GET" if path.endswith("/servedmodels"):
                    return 200, {"items": [], "metadata": {"resourceVersion": str(self._revision)}}
                case _:
                    return 404, {"message": f"{method} {path}: not there"}
            body["metadata"]["resourceVersion"] = str(self._revision)
            self.objects[path] = body
            return 200, body

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if "watch=" in self.path:
                    self.send_response(200)
                    self.send_header("Connection", "close")
                    self.end_headers()
                    server._stop.wait(60)
                    self.close_connection = True
                else:
                    self._answer()

            def do_POST(self) -> None:
                self._answer()

            def do_PUT(self) -> None:
                self._answer()

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                status, said = server.answer(self.command, urlsplit(self.path).path, body)
                data = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Suppress the request log."""

        return Handler
