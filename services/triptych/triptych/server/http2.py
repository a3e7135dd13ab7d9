"""The server on libnghttp2: all connections on the loop of the process, so that a call wakes no thread."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from triptych.errors import Draining, Internal
from triptych.http2.exchange import Answer, Exchange, Handler
from triptych.http2.framing import Headers, status_headers
from triptych.http2.server import BEGIN_S, Server
from triptych.protocol.call import Call
from triptych.protocol.methods import Method, Service
from triptych.protocol.peer import certificate_names
from triptych.runtime.addresses import WILDCARD6, join, resolve
from triptych.runtime.settings import StageSettings
from triptych.runtime.tls import server_context
from triptych.server.base import STOPPING, GrpcServer, parser, refusal

IDLE_S = 0.02  # between two looks whether all calls have ended
WRITTEN_S = 1.0  # for the last bytes of connections that are closed
BACKLOG = 1024


class Http2Server(GrpcServer):
    """Serves with `triptych.http2`."""

    def __init__(self, services: Sequence[Service], settings: StageSettings) -> None:
        super().__init__(services, settings)
        self._unpacking = ThreadPoolExecutor(1, thread_name_prefix="unpacking")
        self._handlers = {
            f"/{service.full_name}/{method.name}".encode(): Handler(
                method.name, self._answerer(service.full_name, method), method.client_streaming
            )
            for service in self.services
            for method in service.methods
        }
        self._server: Server | None = None
        self._listeners: list[asyncio.Server] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        context = server_context(self.settings)
        self._server = Server(self.settings, self._handlers, _end, self._unpacking)
        for listening in self._bind():
            listener = await loop.create_server(
                self._server.connect,
                sock=listening,
                ssl=context,
                backlog=BACKLOG,
                ssl_handshake_timeout=BEGIN_S if context else None,
            )
            self._listeners.append(listener)

    async def send_away(self, grace_s: float) -> None:
        assert self._server is not None
        self._server.leave()
        for listener in self._listeners:
            listener.close()

    async def end(self, grace_s: float) -> None:
        assert self._server is not None
        server, last_s = self._server, time.monotonic() + grace_s
        while server.exchanges and time.monotonic() < last_s:
            await asyncio.sleep(IDLE_S)
        left = server.exchanges
        for exchange in left:
            exchange.end(Draining(STOPPING))
        await asyncio.gather(*(exchange.task for exchange in left if exchange.task), return_exceptions=True)
        for connection in tuple(server.connections):
            connection.leave_for_good()
            connection.close()
        last_s = time.monotonic() + WRITTEN_S
        while server.connections and time.monotonic() < last_s:
            await asyncio.sleep(IDLE_S)
        for connection in tuple(server.connections):
            connection.abort()
        self._unpacking.shutdown(wait=False)

    def _bind(self) -> list[socket.socket]:
        """Sockets for all addresses of the host, with one port. Raises `OSError` with a sentence."""
        settings, bound = self.settings, list[socket.socket]()
        try:
            for host in resolve(settings.host):
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                listening = socket.socket(family, socket.SOCK_STREAM)
                bound.append(listening)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != WILDCARD6))
                listening.bind((host, self.port))
                listening.listen(BACKLOG)
                self.port = int(listening.getsockname()[1])
        except OSError as error:
            for listening in bound:
                listening.close()
            address, prefix = join(settings.host, settings.port), settings.prefix()
            fault = f"cannot listen on {address}: {error.strerror}; {prefix}PORT and {prefix}HOST set others"
            raise OSError(fault) from error
        return bound

    def _call(self, service: str, exchange: Exchange, *, endless: bool) -> Call:
        self.check_metadata(exchange.headers)
        metadata = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in exchange.headers if key[-4:] != b"-bin"
        }
        call = self.admit(service, exchange.left_s(metadata.get("grpc-timeout")), metadata, endless=endless)
        call.ask_peer = lambda: exchange.peer
        call.ask_identity = lambda: certificate_names(exchange.certificate)
        return call

    def _answerer(self, service: str, method: Method) -> Answer:
        parse = parser(method.request)

        async def unary(exchange: Exchange) -> None:
            call = self._call(service, exchange, endless=False)
            request = parse(await exchange.message())
            response = await method.answer(request, call)
            exchange.finish(response.SerializeToString(), call.settle)

        async def streaming(exchange: Exchange) -> None:
            call = self._call(service, exchange, endless=True)
            if method.client_streaming:
                asked: Any = self.parsed(exchange.requests(), parse)
            else:
                asked = parse(await exchange.message())
            async with aclosing(method.answer(asked, call)) as answers:
                async for response in answers:
                    await exchange.answer(response.SerializeToString())
            exchange.finish(None)

        return _guarded(streaming if method.client_streaming or method.server_streaming else unary, method.name)


def _guarded(answer: Answer, name: str) -> Answer:
    """The same, with errors as the end of the call."""

    async def guarded(exchange: Exchange) -> None:
        try:
            await answer(exchange)
        except asyncio.CancelledError:
            if exchange.why is not None:
                exchange.refuse(exchange.why, name)
            elif not exchange.is_over:  # something that it waited for was cancelled, not it: its caller is still there
                exchange.refuse(Internal(f"{name} was cancelled from within"), name)
        except Exception as error:
            exchange.refuse(error, name)

    return guarded


def _end(error: Exception, method: str) -> Headers:
    return status_headers(*refusal(error, method))
