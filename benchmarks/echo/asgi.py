"""Echo as an ASGI application, for servers that send trailers: our door for Envoy needs nothing else of Envoy."""

from __future__ import annotations

from benchmarks.echo.server import table
from benchmarks.echo.settings import Settings
from triptych.door import EnvoyDoor
from triptych.door.envoy import Receive, Scope, Send

_doors: list[EnvoyDoor] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await _door()(scope, receive, send)
        return
    while (kind := (await receive())["type"]) != "lifespan.shutdown":
        await send({"type": f"{kind}.complete"})
    await send({"type": f"{kind}.complete"})


def _door() -> EnvoyDoor:
    if not _doors:
        settings = Settings()
        _doors.append(EnvoyDoor([table(settings)], settings))
    return _doors[0]
