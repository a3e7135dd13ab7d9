"""Accepts TLS connections, with a limit of handshakes in progress.

A loop's own server begins any number of handshakes, and no protocol hears of them: 12,000 halves of a ClientHello took
1 GiB (2026-11-30).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

ACCEPTED_AT_ONCE = 16  # in one turn of the loop
PAUSE_S = 1.0  # after an error of the system, such as a lack of file descriptors


@dataclass(frozen=True)
class TlsOptions:
    """The context of a server, the time limit of a handshake, and the number of handshakes at once."""

    context: ssl.SSLContext
    handshake_s: float
    max_handshakes: int


class TlsListener:
    """A listening socket whose connections get a protocol once their handshake is done.

    Over the limit the oldest handshake ends for a new one: an honest one takes milliseconds.
    """

    def __init__(
        self, listening: socket.socket, protocol: Callable[[], asyncio.BaseProtocol], options: TlsOptions
    ) -> None:
        self._listening, self._protocol, self._options = listening, protocol, options
        self._loop = asyncio.get_running_loop()
        self._handshakes: dict[asyncio.Task[None], None] = {}  # oldest first
        self._pause: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accept no more connections. Handshakes in progress go on."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()

    async def wait_closed(self) -> None:
        """Return at once: nothing is left of a closed listener."""

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._listening)
                self._pause = self._loop.call_later(PAUSE_S, self._resume)
                return
            self._begin(accepted)

    def _begin(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self._handshakes) >= self._options.max_handshakes:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
        task = self._loop.create_task(self._handshake(accepted))
        self._handshakes[task] = None
        task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _handshake(self, accepted: socket.socket) -> None:
        options = self._options
        with contextlib.suppress(OSError):  # its errors, of TLS and of time too: all are the caller's
            await self._loop.connect_accepted_socket(
                self._protocol, accepted, ssl=options.context, ssl_handshake_timeout=options.handshake_s
            )
