"""The HTTP port of a stage: its metrics, and for probes that cannot speak TLS to its server, `/live` and `/ready`.

One thread has an event loop of its own, so that a page answers while the stage's loop does not turn. Whatever is asked,
a connection lasts for no more than `timeout_s`, and beyond `max_connections` the oldest one is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import threading
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, parse_headers

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from triptych.runtime.addresses import WILDCARD6, join, resolve
from triptych.runtime.settings import StageSettings
from triptych.server.base import GrpcServer
from triptych.telemetry.metrics import StageMetrics, together

TURN_S = 4.0  # a loop that does not turn for so long is not live; the probe itself waits for 5
HEAD_BYTES = 16 << 10
PLAIN = "text/plain; charset=utf-8"

Answer = tuple[HTTPStatus, str, bytes]


class ProbePages:
    """What each path answers. `loop` is the server's."""

    def __init__(self, registry: CollectorRegistry, server: GrpcServer, loop: asyncio.AbstractEventLoop) -> None:
        self._registry, self._server, self._loop = registry, server, loop

    async def answer(self, method: str, path: str, headers: HTTPMessage) -> Answer:
        """Status, content type and body."""
        if path not in ("/metrics", "/live", "/ready"):
            return HTTPStatus.NOT_FOUND, PLAIN, b"want /metrics, /live or /ready\n"
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, PLAIN, b"want GET\n"
        if path == "/metrics":
            encode, kind = choose_encoder(headers.get("Accept", ""))
            return HTTPStatus.OK, kind, encode(self._registry)
        well = await self._turns() and (path == "/live" or self._server.ready)
        return (HTTPStatus.OK, PLAIN, b"yes\n") if well else (HTTPStatus.SERVICE_UNAVAILABLE, PLAIN, b"no\n")

    async def _turns(self) -> bool:
        asked, turned = asyncio.get_running_loop(), asyncio.Event()
        try:
            self._loop.call_soon_threadsafe(lambda: asked.call_soon_threadsafe(turned.set))
        except RuntimeError:  # it is closed
            return False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(turned.wait(), TURN_S)
        return turned.is_set()


class Server:
    """Speaks HTTP/1.1, one request for each connection."""

    def __init__(self, pages: ProbePages, timeout_s: float, max_connections: int) -> None:
        self._pages, self._timeout_s, self._max_connections = pages, timeout_s, max_connections
        self._open: dict[asyncio.Task[None], None] = {}  # the oldest first

    def start(self, host: str, port: int) -> None:
        """Listens, and serves in a thread. Raises `OSError` when it cannot listen."""
        sockets = [_listening(address, port) for address in resolve(host)]
        threading.Thread(target=lambda: asyncio.run(self._serve(sockets)), name="pages", daemon=True).start()

    async def _serve(self, sockets: list[socket.socket]) -> None:
        servers = [await asyncio.start_server(self._accept, sock=each, limit=HEAD_BYTES) for each in sockets]
        await asyncio.gather(*(server.serve_forever() for server in servers))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        while len(self._open) >= self._max_connections:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cancel()
        self._open[task] = None
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._exchange(reader, writer)
        except (TimeoutError, OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._open.pop(task, None)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = ""
        try:
            line, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            method, target, _ = line.decode("ascii").split(" ")
            headers = parse_headers(io.BytesIO(rest))
        except (asyncio.LimitOverrunError, asyncio.IncompleteReadError, ValueError, HTTPException):
            status, kind, body = HTTPStatus.BAD_REQUEST, PLAIN, b"want a request of HTTP/1.1 with a short head\n"
        else:
            status, kind, body = await self._pages.answer(method, target.partition("?")[0], headers)
        head = [
            f"HTTP/1.1 {status} {status.phrase}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        writer.write("\r\n".join([*head, "", ""]).encode() + (b"" if method == "HEAD" else body))
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def serve(settings: StageSettings, server: GrpcServer, *stages: StageMetrics) -> None:
    """Serves the metrics of the stages in this process and the probes, from the server's loop. Port 0 is none.

    Raises `OSError` when the address cannot be had.
    """
    host, port = settings.host, settings.metrics_port
    if not port:
        return
    registry = together(*stages) if len(stages) > 1 else stages[0].registry
    answers = ProbePages(registry, server, asyncio.get_running_loop())
    try:
        Server(answers, settings.metrics_timeout_s, settings.metrics_max_connections).start(host, port)
    except OSError as error:
        raise OSError(f"cannot serve metrics on {join(host, port)}: {error.strerror}") from error


def _listening(address: str, port: int) -> socket.socket:
    """`::` is for both families."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, dualstack_ipv6=address == WILDCARD6)
