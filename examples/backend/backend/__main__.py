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
    web.run_app(app, host=settings.host, port=settings.port, shutdown_timeout=settings.grace_s)
