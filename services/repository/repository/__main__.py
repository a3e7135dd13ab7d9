"""`python -m repository`: runs the repository. `--help` lists its settings."""

import sys

from repository.server import build
from repository.settings import Settings
from triptych import lifecycle, settings


def main() -> int:
    config = settings.load(Settings, sys.argv[1:])
    return lifecycle.run("repository", config, lambda: build(config))


if __name__ == "__main__":
    sys.exit(main())
