"""HTTP port of a stage: `/metrics`, and `/live` and `/ready` for probes, which cannot speak mutual TLS.

A thread runs its own event loop, so that it answers while the stage's loop is blocked. A connection lasts at most
`timeout_s`. Beyond `max_connections` the oldest connection is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import math
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, parse_headers
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from triptych.runtime.addresses import join
from triptych.runtime.settings import StageSettings
from triptych.server.base import GrpcServer
from triptych.server.sockets import listen
from triptych.telemetry.metrics.merged_registry import merged_registry
from triptych.telemetry.metrics.stage_metrics import StageMetrics

log = logging.getLogger(__name__)

LOOP_TIMEOUT_S = 4.0  # a loop blocked for longer is not live; the probe itself waits 5 s
HEAD_BYTES = 16 << 10
FAULT_PERIOD_S = 60.0
PLAIN = "text/plain; charset=utf-8"

# A page of metrics stands for so many times as long as it took, so that callers cannot keep Python's lock: a page of
# thousands of models takes tenths of a second.
STANDS_FACTOR = 4.0

Answer = tuple[HTTPStatus, str, bytes]


class RenderedPage:
    """The page of a registry, of each content type rendered in a fifth of the time at most. There are a dozen types."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry, self._clock = registry, clock
        self._rendered: dict[str, tuple[bytes, float]] = {}  # by content type, with the time until which they stand

    def render(self, accept: str) -> tuple[str, bytes]:
        """Content type and body for an `Accept` header."""
        encode, kind = choose_encoder(accept)
        started_s = self._clock()
        page, until_s = self._rendered.get(kind, (b"", 0.0))
        if started_s >= until_s:
            page, ended_s = encode(self._registry), self._clock()
            self._rendered[kind] = page, ended_s + STANDS_FACTOR * (ended_s - started_s)
        return kind, page


class ProbeHandler:
    """Answers each path. `loop` is the loop of the gRPC server."""

    def __init__(self, registry: CollectorRegistry, server: GrpcServer, loop: asyncio.AbstractEventLoop) -> None:
        self._metrics, self._server, self._loop = RenderedPage(registry), server, loop

    async def answer(self, method: str, path: str, headers: HTTPMessage) -> Answer:
        """Status, content type and body."""
        if path not in ("/metrics", "/live", "/ready"):
            return HTTPStatus.NOT_FOUND, PLAIN, b"want /metrics, /live or /ready\n"
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, PLAIN, b"want GET\n"
        if path == "/metrics":
            return HTTPStatus.OK, *self._metrics.render(headers.get("Accept", ""))
        healthy = await self._is_loop_running() and (path == "/live" or self._server.ready)
        return (HTTPStatus.OK, PLAIN, b"yes\n") if healthy else (HTTPStatus.SERVICE_UNAVAILABLE, PLAIN, b"no\n")

    async def _is_loop_running(self) -> bool:
        own_loop, answered = asyncio.get_running_loop(), asyncio.Event()
        try:
            self._loop.call_soon_threadsafe(lambda: own_loop.call_soon_threadsafe(answered.set))
        except RuntimeError:  # it is closed
            return False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(answered.wait(), LOOP_TIMEOUT_S)
        return answered.is_set()


class ProbeServer:
    """HTTP/1.1 server, with one request for each connection."""

    def __init__(self, handler: ProbeHandler, timeout_s: float, max_connections: int) -> None:
        self._handler, self._timeout_s, self._max_connections = handler, timeout_s, max_connections
        self._open: dict[asyncio.Task[None], None] = {}  # oldest first

    def start(self, host: str, port: int) -> None:
        """Listen, and serve in a thread. Raises `OSError` if the address is not available."""
        sockets = listen(host, port)
        threading.Thread(target=lambda: asyncio.run(self._serve(sockets)), name="probes", daemon=True).start()

    async def _serve(self, sockets: list[socket.socket]) -> None:
        asyncio.get_running_loop().set_exception_handler(LoopFaults())
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
                await self._answer(reader, writer)
        except (TimeoutError, OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._open.pop(task, None)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = ""
        try:
            line, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            method, target, _ = line.decode("ascii").split(" ")
            headers = parse_headers(io.BytesIO(rest))
        except (asyncio.LimitOverrunError, asyncio.IncompleteReadError, ValueError, HTTPException):
            status, kind, body = HTTPStatus.BAD_REQUEST, PLAIN, b"want a request of HTTP/1.1 with a short head\n"
        else:
            status, kind, body = await self._handler.answer(method, target.partition("?")[0], headers)
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


class LoopFaults:
    """Logs faults of the loop, one within `FAULT_PERIOD_S`: without file descriptors it has a thousand in a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._until_s = clock, -math.inf

    def __call__(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if (now_s := self._clock()) >= self._until_s:
            self._until_s = now_s + FAULT_PERIOD_S
            error = context.get("exception")
            log.warning("fault of the metrics port", extra={"text": context.get("message"), "error": repr(error)})


def serve(settings: StageSettings, server: GrpcServer, *stages: StageMetrics) -> None:
    """Serve the metrics of the stages in this process, and the probes. Port 0 switches them off.

    Called on the loop of the gRPC server. Raises `OSError` if the address is not available.
    """
    host, port = settings.host, settings.metrics_port
    if not port:
        return
    registry = merged_registry(*(stage.registry for stage in stages)) if len(stages) > 1 else stages[0].registry
    handler = ProbeHandler(registry, server, asyncio.get_running_loop())
    try:
        ProbeServer(handler, settings.metrics_timeout_s, settings.metrics_max_connections).start(host, port)
    except OSError as error:
        raise OSError(f"cannot serve metrics on {join(host, port)}: {error.strerror}") from error
