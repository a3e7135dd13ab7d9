"""A limit for connections: aiohttp keeps any number, and one without a request for ever."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

OPEN = ("/live", "/ready")  # answered at once, for any caller
AGAIN = {"Retry-After": "1"}


class Connections:
    """At most `most` at once: a new one ends the oldest without a request. Requests beyond `most` get 503."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._busy: set[web.RequestHandler] = set()
        self._server: web.Server | None = None

    def serve(self, server: web.Server) -> None:
        """Take the server, once it is there."""
        self._server = server

    def accept(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        assert self._server is not None
        asyncio.get_running_loop().call_later(0, self._close_idle)  # the new one has its transport then
        return self._server()

    def _close_idle(self) -> None:
        assert self._server is not None
        opened = {each: each.transport for each in self._server.connections if each.transport is not None}
        idle = [transport for each, transport in opened.items() if each not in self._busy]
        for transport in idle[:-1][: max(0, len(opened) - self._most)]:  # the newest one stays, for its answer of 503
            transport.abort()

    def middleware(self) -> Middleware:
        @web.middleware
        async def limited(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path in OPEN:
                return await handler(request)
            if len(self._busy) >= self._most:
                return web.json_response({"error": "too many requests at once"}, status=503, headers=AGAIN)
            self._busy.add(request.protocol)
            try:
                return await handler(request)
            finally:
                self._busy.discard(request.protocol)

        return limited
