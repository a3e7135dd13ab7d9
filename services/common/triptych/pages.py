"""The HTTP port of a stage: its metrics, and for probes that cannot speak TLS to its door, `/live` and `/ready`."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from triptych.door import Door

TURN_S = 4.0  # a loop that does not turn for so long is not live; the probe itself waits for 5

Pages = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Probes come every other second."""


def serve(host: str, port: int, registry: CollectorRegistry, door: Door) -> None:
    """In threads of their own; from the loop of the door. Raises `OSError` when the port is taken."""
    made = pages(registry, door, asyncio.get_running_loop())
    server = make_server(host, port, made, _Server6 if ":" in host else _Server, _Quiet)
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()


def pages(registry: CollectorRegistry, door: Door, loop: asyncio.AbstractEventLoop) -> Pages:
    """A WSGI application: what is none of the two voices is metrics."""
    metrics: Any = make_wsgi_app(registry)

    def answer(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environment["PATH_INFO"]
        if path not in ("/live", "/ready"):
            return metrics(environment, start)  # type: ignore[no-any-return]
        yes = _turns(loop) and (path == "/live" or door.ready)
        start("200 OK" if yes else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"yes\n" if yes else b"no\n"]

    return answer


def _turns(loop: asyncio.AbstractEventLoop) -> bool:
    turned = threading.Event()
    try:
        loop.call_soon_threadsafe(turned.set)
    except RuntimeError:  # it is closed
        return False
    return turned.wait(TURN_S)
