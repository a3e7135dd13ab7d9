"""`tritonserver` in the image triton-cpu: NVIDIA's command line, so that one Pod template serves both images.

It adds the location of the backends and that there is no GPU. Everything else is set by the given options.
"""

from __future__ import annotations

import os
import sys

from predictor.backends import assemble, cache_folder
from predictor.command import LOAD_THREADS, remove_leftovers
from predictor.errors import CannotStart
from predictor.wheel import Wheel, environment

SHM_PREFIX = "triptych-"


def main() -> None:
    """Does not return. The backends go to $XDG_CACHE_HOME, which has to be writable; the root need not be."""
    try:
        wheel = Wheel.of_this_python()
        variables = environment(wheel, dict(os.environ))
        backends = assemble(wheel, cache_folder())
    except (CannotStart, OSError) as error:
        raise SystemExit(f"tritonserver: {error}") from None
    remove_leftovers(SHM_PREFIX)
    os.umask(0o077)
    options = [
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={SHM_PREFIX}",
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",
        LOAD_THREADS,
    ]
    os.execve(wheel.server, [str(wheel.server), *options, *sys.argv[1:]], variables)


if __name__ == "__main__":
    main()
