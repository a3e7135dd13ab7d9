"""An HTTP/1.1 server for ASGI applications: uvicorn on the loop of the process, with limits for idle connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from dataclasses import dataclass
from typing import Any

import uvicorn

from triptych.runtime.addresses import join
from triptych.runtime.settings import StageSettings
from triptych.server.http1_connection import HEAD_BYTES, KEEP_ALIVE_S, ConnectionLimits, connections
from triptych.server.sockets import BACKLOG, listen
from triptych.server.tls_listener import TlsListener, TlsOptions

log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0  # limit for TLS
MAX_HANDSHAKES = 64  # at once


@dataclass(frozen=True)
class HttpOptions:
    """Address and limits of a server. `port_setting` is named when the port cannot be opened."""

    name: str
    host: str
    port: int
    port_setting: str
    limits: ConnectionLimits
    grace_s: float
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(
        cls,
        settings: StageSettings,
        name: str,
        port_setting: str,
        *,
        host: str,
        port: int,
        max_connections: int,
        tls: ssl.SSLContext | None = None,
    ) -> HttpOptions:
        """With the times of a stage."""
        times = (settings.slow_after_s, settings.request_timeout_s, settings.min_bytes_per_s)
        limits = ConnectionLimits(max_connections, *times)
        return cls(name, host, port, port_setting, limits, settings.grace_s, tls)


class HttpServer:
    """Serves an ASGI application from `open` to `close`."""

    def __init__(self, app: Any, options: HttpOptions) -> None:
        self._options = options
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it logs what callers send
        tls = options.tls
        config = uvicorn.Config(
            app,
            http=connections(options.limits),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=options.limits.max_connections + 1,  # it counts the new one too
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
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, with limits of TLS handshakes that it has not: of their time and their number."""
        config, loop = self.config, asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state={}
            )
            return made

        if config.ssl is None:
            self.servers = [await loop.create_server(connection, sock=each, backlog=BACKLOG) for each in sockets or ()]
        else:
            options = TlsOptions(config.ssl, HANDSHAKE_S, MAX_HANDSHAKES)
            self.servers = [TlsListener(each, connection, options) for each in sockets or ()]  # type: ignore[misc]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave signals to the lifecycle of the process."""
        yield
