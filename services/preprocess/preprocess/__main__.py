"""`python -m preprocess`: runs the stage. `--help` lists its settings."""

import sys

from preprocess.server import build
from preprocess.settings import Settings
from triptych import lifecycle, settings


def main() -> int:
    config = settings.load(Settings, sys.argv[1:])
    return lifecycle.run("preprocess", config, lambda: build(config))


if __name__ == "__main__":
    sys.exit(main())
