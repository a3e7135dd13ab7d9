"""gRPC server on libnghttp2. All connections are on the loop of the process, so that a call wakes no thread."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from triptych.errors import Draining, Internal
from triptych.http2.framing import HeaderFields, Headers, status_headers
from triptych.http2.server import HANDSHAKE_S, ConnectionManager
from triptych.http2.server_context import Answer, Handler
from triptych.http2.server_stream import ServerStream
from triptych.protocol.call import Call
from triptych.protocol.methods import Method, Service, encoded
from triptych.protocol.parsing import parser
from triptych.runtime.addresses import join
from triptych.runtime.settings import StageSettings
from triptych.runtime.tls import server_context
from triptych.server.base import STOPPING, GrpcServer, refusal, stream_request
from triptych.server.sockets import BACKLOG, listen
from triptych.server.tls_listener import TlsListener, TlsOptions

Listener = asyncio.Server | TlsListener

POLL_S = 0.02  # between two checks whether all calls have ended
FLUSH_S = 1.0  # limit for the last bytes of closing connections


class Http2Server(GrpcServer):
    """Serves with `triptych.http2`."""

    def __init__(self, services: Sequence[Service], settings: StageSettings) -> None:
        super().__init__(services, settings)
        self._decompression = ThreadPoolExecutor(1, thread_name_prefix="decompression")
        self._handlers = {
            f"/{service.full_name}/{method.name}".encode(): Handler(
                method.name,
                self._answerer(service.full_name, method),
                method.client_streaming,
                method.client_streaming or method.server_streaming,
                method.begins_at_once,
            )
            for service in self.services
            for method in service.methods
        }
        self._manager: ConnectionManager | None = None
        self._listeners: list[Listener] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        context = server_context(self.settings)
        self._manager = ConnectionManager(self.settings, self._handlers, self._trailers, self._decompression)
        for listening in self._bind():
            if context is None:
                listener: Listener = await loop.create_server(self._manager.connect, sock=listening, backlog=BACKLOG)
            else:
                most = min(self.settings.max_handshakes, max(1, self._manager.max_connections // 4))  # descriptors
                options = TlsOptions(context, HANDSHAKE_S, most)
                listener = TlsListener(listening, self._manager.connect, options)
            self._listeners.append(listener)

    async def send_goaway(self, grace_s: float) -> None:
        assert self._manager is not None
        self._manager.drain()
        for listener in self._listeners:
            listener.close()

    async def stop(self, grace_s: float) -> None:
        assert self._manager is not None
        manager, until_s = self._manager, time.monotonic() + grace_s
        while manager.streams and time.monotonic() < until_s:
            await asyncio.sleep(POLL_S)
        left = manager.streams
        for stream in left:
            stream.abort(Draining(STOPPING))
        await asyncio.gather(*(stream.task for stream in left if stream.task), return_exceptions=True)
        for connection in tuple(manager.connections):
            connection.go_away()
            connection.close()
        until_s = time.monotonic() + FLUSH_S
        while manager.connections and time.monotonic() < until_s:
            await asyncio.sleep(POLL_S)
        for connection in tuple(manager.connections):
            connection.abort()
        self._decompression.shutdown(wait=False)

    def _bind(self) -> list[socket.socket]:
        """Listening sockets. Raises `OSError` with a sentence."""
        settings = self.settings
        try:
            bound = listen(settings.host, self.port)
        except OSError as error:
            address, prefix = join(settings.host, settings.port), settings.prefix()
            fault = f"cannot listen on {address}: {error.strerror}; {prefix}PORT and {prefix}HOST set others"
            raise OSError(fault) from error
        self.port = int(bound[0].getsockname()[1])
        return bound

    def _trailers(self, error: Exception, method: str, request_id: str) -> Headers:
        shows_cause = self.settings.show_internal_errors
        return status_headers(*refusal(error, method, request_id, shows_cause=shows_cause))

    def _call(self, service: str, stream: ServerStream, *, endless: bool) -> Call:
        call = self.admit(service, stream.left_s(), HeaderFields(stream.fields), endless=endless)
        call.ask_peer, call.ask_identity = stream.caller.ask_peer, stream.caller.ask_identity
        return call

    def _answerer(self, service: str, method: Method) -> Answer:
        parse = parser(method.request, self.settings.max_message_bytes)

        async def unary(stream: ServerStream) -> None:
            call = self._call(service, stream, endless=False)
            request = parse(await stream.message())
            try:
                response = await method.answer(request, call)
            except BaseException:
                stream.failed_request = call.failed_request
                raise
            stream.finish(response.SerializeToString(), call.settle)

        async def streaming(stream: ServerStream) -> None:
            call = self._call(service, stream, endless=True)
            if method.client_streaming:
                asked: Any = self.unparsed(stream.requests(), parse)
            else:
                asked = stream_request(parse, await stream.message())
            async with aclosing(method.answer(asked, call)) as answers:
                async for response in answers:
                    sending = stream.answer(encoded(response))
                    del response  # its bytes are counted; nothing else may hold it while the caller does not read
                    await sending
            stream.finish(None)

        return _guarded(streaming if method.client_streaming or method.server_streaming else unary, method.name)


def _guarded(answer: Answer, name: str) -> Answer:
    """Wrap a handler: errors end the call with their status."""

    async def guarded(stream: ServerStream) -> None:
        try:
            await answer(stream)
        except asyncio.CancelledError:
            if stream.abort_reason is not None:
                stream.refuse(stream.abort_reason, name)
            elif not stream.is_over:  # an awaited task was cancelled, not this one: the caller still waits
                stream.refuse(Internal(f"{name} was cancelled from within"), name)
        except Exception as error:
            stream.refuse(error, name)

    return guarded
