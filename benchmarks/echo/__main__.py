"""`python -m benchmarks.echo`: echo behind a server of ours."""

import sys

from benchmarks.echo.settings import Settings
from triptych.runtime import settings
from triptych.server import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run("benchmarks.echo", settings.load(Settings, sys.argv[1:])))
