"""The HTTP server of `RestApp`: uvicorn on the loop of the process, with limits for connections that wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from preprocess.rest.app import RestApp
from preprocess.settings import Settings
from triptych.runtime.addresses import join
from triptych.runtime.tls import server_context
from triptych.server.inference_servicer import InferenceServicer
from triptych.server.sockets import listen

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 60
HEAD_BYTES = 64 << 10


class RestServer:
    """Serves the HTTP form from `open` to `close`."""

    def __init__(self, settings: Settings, servicer: InferenceServicer) -> None:
        self._settings = settings
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it logs what callers send
        config = uvicorn.Config(
            RestApp(settings, servicer).app,
            http=_protocol(settings),
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
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave signals to the lifecycle of the process."""
        yield


def _tls(settings: Settings) -> Any:
    """A factory of the context that gRPC serves with; None for plaintext."""
    context = server_context(settings, alpn="http/1.1")
    return None if context is None else lambda config, default: context


def _protocol(settings: Settings) -> type[asyncio.Protocol]:
    """HTTP/1.1 whose connections close if no head of a request arrives in time; uvicorn waits for it without limit."""

    class BoundedProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._idle_s = self._busy_s = 0.0
            self._check = self.loop.call_later(settings.slow_after_s, self._close_if_idle)

        def _close_if_idle(self) -> None:
            """Every `slow_after_s`: close a connection without a request, or whose answer is not read."""
            idle = self.cycle is None or self.cycle.response_complete
            self._idle_s = self._idle_s + settings.slow_after_s if idle else 0.0
            self._busy_s = 0.0 if idle else self._busy_s + settings.slow_after_s
            if self._idle_s > KEEP_ALIVE_S or (self.cycle is None and self._idle_s):
                self.transport.close()
                return
            if self._busy_s > settings.request_timeout_s + KEEP_ALIVE_S:
                self.transport.abort()
                return
            self._check = self.loop.call_later(settings.slow_after_s, self._close_if_idle)

        def connection_lost(self, exc: Exception | None) -> None:
            self._check.cancel()
            super().connection_lost(exc)

    return BoundedProtocol
