"""`python -m backend`."""

import os
import sys

from aiohttp import web

from backend.server import build
from backend.settings import WrongSetting, read

if __name__ == "__main__":
    try:
        settings = read(os.environ)
        app = build(settings)
    except WrongSetting as error:
        sys.exit(str(error))
    host = None if settings.host == "::" else settings.host  # asyncio's :: would be IPv6 alone
    web.run_app(app, host=host, port=settings.port, shutdown_timeout=settings.grace_s)
