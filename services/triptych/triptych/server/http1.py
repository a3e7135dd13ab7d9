"""An HTTP/1.1 server for ASGI applications: uvicorn on the loop of the process, with limits for idle connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from triptych.runtime.addresses import join
from triptych.server.sockets import listen

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 60
HEAD_BYTES = 64 << 10


@dataclass(frozen=True)
class HttpOptions:
    """Address and limits of a server. `port_setting` is named when the port cannot be opened.

    slow_after_s: longest wait for the head of a connection's first request.
    request_timeout_s: time of an answer; a minute later the connection of a caller who does not read it is closed.
    """

    name: str
    host: str
    port: int
    port_setting: str
    max_connections: int
    slow_after_s: float
    request_timeout_s: float
    grace_s: float
    tls: ssl.SSLContext | None = None


class HttpServer:
    """Serves an ASGI application from `open` to `close`."""

    def __init__(self, app: Any, options: HttpOptions) -> None:
        self._options = options
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it logs what callers send
        tls = options.tls
        config = uvicorn.Config(
            app,
            http=_protocol(options),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=options.max_connections + 1,  # it counts the new one too
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(options.grace_s),
            h11_max_incomplete_event_size=HEAD_BYTES,
            ssl_context_factory=None if tls is None else lambda config, default: tls,
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None
        self.port = 0  # the listening port, once it is open

    async def open(self) -> None:
        """Listen and serve. Raises `OSError` with a sentence."""
        host, port = self._options.host, self._options.port
        try:
            sockets = listen(host, port)
        except OSError as error:
            text = f"cannot listen on {join(host, port)}: {error.strerror}; {self._options.port_setting} sets another"
            raise OSError(text) from error
        self.port = int(sockets[0].getsockname()[1])
        self._serving = asyncio.create_task(self._server.serve(sockets))
        log.info(self._options.name, extra={"address": join(host, self.port)})

    def drain(self) -> None:
        """Accept no more connections, and close each after its answer."""
        self._server.should_exit = True

    async def close(self) -> None:
        """Wait until all requests are answered, at most `grace_s`."""
        self.drain()
        if self._serving is not None:
            await self._serving
            await asyncio.gather(*self._server.server_state.tasks, return_exceptions=True)  # cancelled, not yet ended


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave signals to the lifecycle of the process."""
        yield


def _protocol(options: HttpOptions) -> type[asyncio.Protocol]:
    """HTTP/1.1 whose connections close if no head of a request arrives in time; uvicorn waits for it without limit."""

    class BoundedProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._idle_s = self._busy_s = 0.0
            self._check = self.loop.call_later(options.slow_after_s, self._close_if_idle)

        def _close_if_idle(self) -> None:
            """Every `slow_after_s`: close a connection without a request, or whose answer is not read."""
            idle = self.cycle is None or self.cycle.response_complete
            self._idle_s = self._idle_s + options.slow_after_s if idle else 0.0
            self._busy_s = 0.0 if idle else self._busy_s + options.slow_after_s
            if self._idle_s > KEEP_ALIVE_S or (self.cycle is None and self._idle_s):
                self.transport.close()
                return
            if self._busy_s > options.request_timeout_s + KEEP_ALIVE_S:
                self.transport.abort()
                return
            self._check = self.loop.call_later(options.slow_after_s, self._close_if_idle)

        def connection_lost(self, exc: Exception | None) -> None:
            self._check.cancel()
            super().connection_lost(exc)

    return BoundedProtocol
