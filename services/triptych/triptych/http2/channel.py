"""Channel: round-robin calls over one connection to each address that a name resolves to."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import grpc

from triptych.http2.client import ClientConnection
from triptych.http2.client_stream import CallFailed, ClientLimits, LastingCall
from triptych.http2.connection import READ_BYTES
from triptych.http2.framing import Headers
from triptych.protocol.status import pushback_s
from triptych.runtime import addresses

CONNECT_S = 5.0  # limit for a connection, until the SETTINGS of the server
BACKOFF_S, MAX_BACKOFF_S = 0.1, 1.0  # between two attempts to connect
# A headless Service has an address for each pod: all are used, and resolved again soon after one is lost.
RESOLVE_S = 0.5  # between two resolutions of a name

# Retries, for an address of several replicas: a call that one replica refuses while it drains goes to another. Calls
# are idempotent. Of 3,728 calls 25 were lost without retries when the older of two pods was deleted three times, and 0
# of 2,917 with them (2026-11-21). A pod that was killed answered CANCELLED to its last calls, 2 of 1,083 (2026-11-21).
MAX_ATTEMPTS = 5
RETRYABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
RETRY_S, MAX_RETRY_S = 0.05, 0.2

CLOSED = "the channel was closed"

Metadata = Sequence[tuple[str, str]]


class _Endpoint:
    """One address: its connection, or the attempt to open one."""

    def __init__(self) -> None:
        self.connection: ClientConnection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.connect_at_s = 0.0  # earliest next attempt, after the last connection
        self.retry: asyncio.TimerHandle | None = None  # backoff after a failed attempt
        self.backoff_s = BACKOFF_S

    def wait(self, seconds: float, retry: Callable[[], None]) -> None:
        """Call `retry` after the backoff."""

        def over() -> None:
            self.retry = None
            retry()

        self.retry = asyncio.get_running_loop().call_later(seconds, over)

    def cancel(self) -> None:
        """Cancel the attempt and the backoff."""
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        if self.retry is not None:
            self.retry.cancel()


class Http2Channel:
    """Calls to an address, which is one of gRPC's: `host:port`, `dns:///host:port`, `ipv4:a:1,b:2`.

    Connections open with the first call, stay open, and open again when they are lost. With `retries`, a call that
    fails with UNAVAILABLE or CANCELLED is sent again, to the next connection.
    """

    def __init__(
        self,
        address: str,
        context: ssl.SSLContext | None = None,
        server_name: str = "",
        *,
        retries: bool = False,
        limits: ClientLimits | None = None,
    ) -> None:
        self.address, self._context, self._server_name, self._retries = address, context, server_name, retries
        self._is_numeric = addresses.is_numeric(address)  # else a name or a list, which may change
        self._base: Headers = (
            (b":method", b"POST"),
            (b":scheme", b"http" if context is None else b"https"),
            (b":authority", (server_name or addresses.join(*addresses.endpoints(address)[0])).encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )
        self._headers: dict[str, Headers] = {}  # by path
        self._endpoints: dict[tuple[str, int], _Endpoint] = {}
        self._connections: set[ClientConnection] = set()  # also those that accept no more calls
        self._usable: list[ClientConnection] = []
        self._turn = 0
        self._buffer, self._limits = bytearray(READ_BYTES), limits or ClientLimits()
        self._resolving: asyncio.Task[None] | None = None
        self._resolve_at_s = 0.0
        self._fault = "no connection yet"
        self._is_closed = False

    async def unary(
        self, path: str, data: bytes, timeout_s: float, metadata: Metadata = (), lasting: LastingCall | None = None
    ) -> bytes:
        """Answer of a unary call within `timeout_s`. Raises `CallFailed`."""
        end_s, headers = time.monotonic() + timeout_s, self._headers_of(path, metadata)
        attempts = 1
        while True:
            try:
                connection = self._next() or await self._connected(end_s)
                return await connection.unary(headers, data, end_s - time.monotonic(), lasting)
            except CallFailed as error:
                await self._before_retry(error, attempts, end_s)
            attempts += 1

    async def stream(self, path: str, data: bytes, metadata: Metadata = ()) -> AsyncGenerator[bytes]:
        """Answers of a server-streaming call, until either side ends it. Raises `CallFailed`."""
        end_s, headers, attempts, has_begun = float("inf"), self._headers_of(path, metadata), 1, False
        while True:
            try:
                connection = self._next() or await self._connected(end_s)
                async with aclosing(connection.stream(headers, data)) as messages:
                    async for message in messages:
                        has_begun = True
                        yield message
                return
            except CallFailed as error:
                if has_begun:
                    raise
                await self._before_retry(error, attempts, end_s)
            attempts += 1

    def retire(self) -> None:
        """Open no more connections, and close each after its last call."""
        self._is_closed = True
        for endpoint in self._endpoints.values():
            endpoint.cancel()
        if self._resolving is not None:
            self._resolving.cancel()
            self._resolving = None
        for connection in tuple(self._connections):
            connection.retire()

    async def close(self) -> None:
        """End all calls and connections."""
        connections, tasks = list(self._connections), self._tasks()
        self.retire()
        for connection in connections:
            connection.fault = CLOSED
            connection.abort()
        if tasks:
            await asyncio.wait(tasks)

    def _headers_of(self, path: str, metadata: Metadata) -> Headers:
        headers = self._headers.get(path)
        if headers is None:
            headers = self._headers[path] = (*self._base[:2], (b":path", path.encode()), *self._base[2:])
        if not metadata:
            return headers
        return (*headers, *((name.encode(), value.encode()) for name, value in metadata))

    def _next(self) -> ClientConnection | None:
        usable = self._usable
        if not usable:
            return None
        self._turn = (self._turn + 1) % len(usable)
        return usable[self._turn]

    async def _connected(self, end_s: float) -> ClientConnection:
        """Wait for a usable connection. Raises `CallFailed`."""
        while (connection := self._next()) is None:
            if self._is_closed:
                raise CallFailed(grpc.StatusCode.UNAVAILABLE, CLOSED)
            self._advance()
            tasks, left_s = self._tasks(), end_s - time.monotonic()
            if not tasks:
                raise CallFailed(grpc.StatusCode.UNAVAILABLE, f"failed to connect: {self._fault}")
            if left_s <= 0:
                raise CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, f"no connection within the deadline: {self._fault}")
            timeout_s = None if left_s == float("inf") else left_s
            await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return connection

    async def _before_retry(self, error: CallFailed, attempts: int, end_s: float) -> None:
        """Return when the call may be retried. Raise the error if it may not."""
        left_s = end_s - time.monotonic()
        may = error.is_unsent or (self._retries and error.code in RETRYABLE)
        if not may or attempts >= MAX_ATTEMPTS or left_s <= 0 or self._is_closed:
            raise error
        if error.is_unsent and attempts == 1:
            return
        pause_s = min(RETRY_S * 2 ** (attempts - 1), MAX_RETRY_S) * random.uniform(0.8, 1.2)
        asked_s = pushback_s(error.trailers)
        if asked_s is not None:
            pause_s = asked_s
        if pause_s >= left_s:
            raise error
        await asyncio.sleep(pause_s)

    def _tasks(self) -> list[asyncio.Task[None]]:
        connecting = [each.connecting for each in self._endpoints.values() if each.connecting is not None]
        return connecting if self._resolving is None else [*connecting, self._resolving]

    def _advance(self) -> None:
        """Start every resolution and connection that is due."""
        if self._is_closed:
            return
        now_s, missing = time.monotonic(), not self._endpoints
        for where, endpoint in self._endpoints.items():
            if endpoint.connection is None:
                missing = True
                if endpoint.connecting is None and endpoint.retry is None:
                    endpoint.connecting = asyncio.create_task(self._connect(where, endpoint))
        if missing and self._resolving is None and now_s >= self._resolve_at_s:
            self._resolving = asyncio.create_task(self._resolve())

    async def _resolve(self) -> None:
        try:
            found = [where for host, port in addresses.endpoints(self.address) for where in await _resolved(host, port)]
        except OSError as error:
            self._fault = f"cannot resolve {self.address}: {error.strerror}"
            found = []
        finally:
            self._resolving = None
        self._resolve_at_s = time.monotonic() + (float("inf") if self._is_numeric and found else RESOLVE_S)
        if found:
            for gone in [where for where in self._endpoints if where not in found]:
                self._drop(self._endpoints.pop(gone))
            for where in found:
                self._endpoints.setdefault(where, _Endpoint())
        self._advance()

    def _drop(self, endpoint: _Endpoint) -> None:
        """Retire an address that the name no longer resolves to."""
        endpoint.cancel()
        if endpoint.connection is not None:
            endpoint.connection.retire()

    async def _connect(self, where: tuple[str, int], endpoint: _Endpoint) -> None:
        await asyncio.sleep(endpoint.connect_at_s - time.monotonic())
        connection = ClientConnection(self._buffer, self._changed, self._limits)
        self._connections.add(connection)
        host, port = where
        try:
            async with asyncio.timeout(CONNECT_S):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    lambda: connection, host, port, ssl=self._context, server_hostname=self._checked_name(host)
                )
                _check_alpn(transport)
                await connection.ready
        except OSError as error:  # of which TimeoutError and ssl.SSLError are
            connection.abort()
            self._connections.discard(connection)
            self._fault = f"{addresses.join(host, port)}: {error.strerror or str(error) or 'no answer in time'}"
            endpoint.wait(endpoint.backoff_s * random.uniform(0.8, 1.2), self._advance)
            endpoint.backoff_s = min(2 * endpoint.backoff_s, MAX_BACKOFF_S)
        except asyncio.CancelledError:
            connection.abort()
            self._connections.discard(connection)
            raise
        else:
            endpoint.backoff_s, endpoint.connect_at_s = BACKOFF_S, time.monotonic() + BACKOFF_S
            if connection.is_usable and not self._is_closed:
                endpoint.connection = connection
                self._usable.append(connection)
            else:
                connection.retire()
        finally:
            endpoint.connecting = None

    def _checked_name(self, host: str) -> str | None:
        """Name required in the server's certificate; None without TLS."""
        if self._context is None:
            return None
        return self._server_name or (addresses.endpoints(self.address)[0][0] if not self._is_numeric else host)

    def _changed(self, connection: ClientConnection) -> None:
        """Handle a connection that accepts no more calls: replace it at once."""
        if connection.is_lost:
            self._connections.discard(connection)
        if connection in self._usable:
            self._usable.remove(connection)
            self._fault = connection.fault
        for endpoint in self._endpoints.values():
            if endpoint.connection is connection:
                endpoint.connection = None
        if not self._is_closed:
            asyncio.get_running_loop().call_soon(self._advance)


def _check_alpn(transport: asyncio.Transport) -> None:
    """Raises `OSError` for a server that has TLS and did not choose HTTP/2."""
    tls = transport.get_extra_info("ssl_object")
    if tls is not None and tls.selected_alpn_protocol() != "h2":
        raise OSError("want HTTP/2 by ALPN, and the server did not choose it")


async def _resolved(host: str, port: int) -> list[tuple[str, int]]:
    """Addresses of a host name, or the IP address itself."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(where[0]), port) for *_, where in found))
