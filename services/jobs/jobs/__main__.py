"""`python -m jobs`: runs the service. `--help` lists its settings."""

import sys

from jobs.settings import Settings
from triptych.runtime import settings
from triptych.server import lifecycle


def main() -> int:
    config = settings.load(Settings, sys.argv[1:])
    return lifecycle.run("jobs", config)


if __name__ == "__main__":
    sys.exit(main())
