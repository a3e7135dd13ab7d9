"""`python -m controller`: run the control plane. `--help` lists its settings."""

import sys

from controller.settings import Settings
from triptych.runtime import settings
from triptych.server import lifecycle


def main() -> int:
    config = settings.load(Settings, sys.argv[1:])
    return lifecycle.run("controller", config)


if __name__ == "__main__":
    sys.exit(main())
