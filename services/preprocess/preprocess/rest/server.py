"""The HTTP server of `RestApp`: uvicorn on the loop of the process, with limits for connections that wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any

import uvicorn

from preprocess.rest.app import RestApp
from preprocess.rest.connection import HEAD_BYTES, KEEP_ALIVE_S, connections
from preprocess.settings import Settings
from triptych.runtime.addresses import join
from triptych.runtime.tls import server_context
from triptych.server.inference_servicer import InferenceServicer
from triptych.server.sockets import BACKLOG, listen

log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0  # limit for TLS


class RestServer:
    """Serves the HTTP form from `open` to `close`."""

    def __init__(self, settings: Settings, servicer: InferenceServicer) -> None:
        self._settings = settings
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it logs what callers send
        config = uvicorn.Config(
            RestApp(settings, servicer).app,
            http=connections(settings),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=settings.rest_max_connections + 1,  # it counts the new one too
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(settings.grace_s),
            h11_max_incomplete_event_size=HEAD_BYTES,
            ssl_context_factory=_tls(settings),
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None
        self.port = 0  # the listening port, once it is open

    async def open(self) -> None:
        """Listen and serve. Raises `OSError` with a sentence."""
        host, port = self._settings.host, self._settings.rest_port
        try:
            sockets = listen(host, port)
        except OSError as error:
            text = f"cannot listen on {join(host, port)}: {error.strerror}; PREPROCESS_REST_PORT sets another"
            raise OSError(text) from error
        self.port = int(sockets[0].getsockname()[1])
        self._serving = asyncio.create_task(self._server.serve(sockets))
        log.info("rest", extra={"address": join(host, self.port)})

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
        """As uvicorn's, with a time limit for TLS handshakes that it has not."""
        config, loop = self.config, asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state={}
            )
            return made

        limit_s = HANDSHAKE_S if config.ssl else None
        self.servers = [
            await loop.create_server(
                connection, sock=each, ssl=config.ssl, backlog=BACKLOG, ssl_handshake_timeout=limit_s
            )
            for each in sockets or ()
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave signals to the lifecycle of the process."""
        yield


def _tls(settings: Settings) -> Any:
    """A factory of the context that gRPC serves with; None for plaintext."""
    context = server_context(settings, alpn="http/1.1")
    return None if context is None else lambda config, default: context
