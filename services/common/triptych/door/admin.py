"""What a stage asks of the Envoy that it runs in, by its admin interface: a socket in a folder of its own user."""

from __future__ import annotations

import asyncio
import os
import re
import time

VARIABLE = "TRIPTYCH_ENVOY_ADMIN"  # the path of the socket
STATISTICS = "door"  # what Envoy calls the connections of this door
ANSWERS_S = 2.0
PAUSE_S = 0.02


def path(folder: str) -> str:
    """Where the socket is. Not in the abstract namespace of Linux, where any local user could connect."""
    return f"{folder}/admin"


class Admin:
    """The admin interface of the own process; does nothing where there is none, as in a test."""

    def __init__(self) -> None:
        self._path = os.environ.get(VARIABLE, "")

    async def send_connections_away(self) -> None:
        """Callers get GOAWAY with their next answer, and the port is closed to new connections.

        A caller that was sent away connects again at once: through an open port it would come back to this process.
        """
        await self._request("POST", "/drain_listeners?graceful&skip_exit")
        await self._request("POST", "/drain_listeners")

    async def until_answers_are_sent(self) -> None:
        """Returns when Envoy has no stream left, or a moment later."""
        last = time.monotonic() + ANSWERS_S
        while time.monotonic() < last:
            counted = await self._request("GET", f"/stats?filter=^http.{STATISTICS}.downstream_rq_active$")
            if not re.search(rb"downstream_rq_active: [1-9]", counted):
                return
            await asyncio.sleep(PAUSE_S)

    async def _request(self, verb: str, path: str) -> bytes:
        if not self._path:
            return b""
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(f"{verb} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n".encode())
            return await reader.read()
        finally:
            writer.close()
