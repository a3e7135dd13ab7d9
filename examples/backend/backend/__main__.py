"""`python -m backend`."""

import asyncio
import os
import signal
import sys

from aiohttp import web

from backend.server import CONNECTIONS, SETTINGS, build
from backend.settings import WrongSetting, read


async def serve(app: web.Application) -> None:
    """Serve until SIGTERM or SIGINT, and then requests in flight."""
    settings, connections = app[SETTINGS], app[CONNECTIONS]
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(app, shutdown_timeout=settings.grace_s)
    await runner.setup()
    assert runner.server is not None
    connections.serve(runner.server)
    host = None if settings.host == "::" else settings.host  # asyncio's :: would be IPv6 alone
    listening = await loop.create_server(connections.accept, host, settings.port)
    await stop.wait()
    listening.close()
    await runner.cleanup()


if __name__ == "__main__":
    try:
        made = build(read(os.environ))
    except WrongSetting as error:
        sys.exit(str(error))
    asyncio.run(serve(made))
