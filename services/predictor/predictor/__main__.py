"""`python -m predictor`: prepares the backends and becomes `tritonserver`, so that signals reach it."""

from __future__ import annotations

import os
import sys

from predictor.backends import assemble, cache_folder
from predictor.command import command, parse, remove_leftovers, shm_prefix
from predictor.errors import CannotStart
from predictor.wheel import Wheel, environment


def main() -> None:
    """Does not return."""
    try:
        options = parse(sys.argv[1:])
        wheel = Wheel.of_this_python()
        variables = environment(wheel, dict(os.environ))
        line = command(wheel.server, assemble(wheel, cache_folder()), options)
    except CannotStart as error:
        raise SystemExit(f"predictor: {error}") from None
    remove_leftovers(shm_prefix(options))
    os.execve(line[0], line, variables)


if __name__ == "__main__":
    main()
