"""HTTP/2 server whose frames a test scripts, including frames that no gRPC server would send."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import ngh2
from ngh2 import Configuration, RequestReceived, Role, Setting, StreamReset

OK = ((b":status", b"200"), (b"content-type", b"application/grpc"))
END = ((b"grpc-status", b"0"),)


class Peer(asyncio.Protocol):
    """One connection; `script` is called with each incoming call."""

    def __init__(self, script: Callable[[Peer, int], None], settings: dict[Setting, int]) -> None:
        self._script, self._settings = script, settings
        self.http = ngh2.Connection(Role.SERVER, Configuration())
        self.transport: asyncio.Transport | None = None
        self.headers: list[dict[bytes, bytes]] = []
        self.resets: list[int] = []
        self.is_gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.http.initiate_connection(self._settings)
        self.flush()

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_gone = True

    def data_received(self, data: bytes) -> None:
        self.http.receive_data(data)
        for event in self.http.events():
            if isinstance(event, RequestReceived):
                self.headers.append(dict(event.headers))
                self._script(self, event.stream_id)
            elif isinstance(event, StreamReset):
                self.resets.append(event.error_code)
        self.flush()

    def answer(self, stream: int, *pieces: bytes, end: Any = END, headers: Any = OK) -> None:
        """Answer with these bytes and trailers; trailers alone replace the headers."""
        if not pieces:
            self.http.send_response(stream, (*headers, *end), end_stream=True)
            return
        self.http.send_response(stream, headers)
        for piece in pieces:
            self.http.send_data(stream, piece)
        if end is not None:
            self.http.send_trailers(stream, end)

    def flush(self) -> None:
        assert self.transport is not None
        while data := self.http.data_to_send(1 << 18):
            self.transport.write(data)


class Peers:
    """Connections to one address."""

    def __init__(self, script: Callable[[Peer, int], None], settings: dict[Setting, int]) -> None:
        self._script, self._settings = script, settings
        self.all: list[Peer] = []
        self.address = ""
        self.port = 0

    def connect(self) -> Peer:
        self.all.append(Peer(self._script, self._settings))
        return self.all[-1]

    @property
    def calls(self) -> int:
        return sum(len(each.headers) for each in self.all)


@asynccontextmanager
async def peers(
    script: Callable[[Peer, int], None],
    settings: dict[Setting, int] | None = None,
    context: ssl.SSLContext | None = None,
    port: int = 0,
    host: str = "127.0.0.1",
) -> AsyncIterator[Peers]:
    """Listen until the block ends."""
    made = Peers(script, settings or {})
    loop = asyncio.get_running_loop()
    server = await loop.create_server(made.connect, host, port, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    made.address = f"{host}:{made.port}"
    try:
        yield made
    finally:
        server.close()
        for each in made.all:
            if each.transport is not None:
                each.transport.abort()
        await asyncio.sleep(0)
