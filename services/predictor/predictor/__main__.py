"""`python -m predictor`: prepares the backends and becomes `tritonserver`, so that signals reach it."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from predictor.backends import assemble, cache_folder
from predictor.command import KEY_VARIABLE, RESTRICTED, command, parse, remove_leftovers, shm_prefix
from predictor.errors import CannotStart
from predictor.hidden_argument import execute
from predictor.shell_words import as_word
from predictor.wheel import Wheel, environment


def main() -> None:
    """Does not return."""
    try:
        options = parse(sys.argv[1:])
        wheel = Wheel.of_this_python()
        variables = environment(wheel, dict(os.environ))
        key = variables.pop(KEY_VARIABLE, "")
        options = replace(options, model_repository=as_word(options.model_repository, cache_folder()))
        line = command(wheel.server, assemble(wheel, cache_folder()), options, key)
    except CannotStart as error:
        raise SystemExit(f"predictor: {error}") from None
    remove_leftovers(shm_prefix(options))
    os.umask(0o077)
    if key and os.getpid() != 1:  # process 1 is alone in its container: no other user reads the process list
        execute(line, next(at for at, word in enumerate(line) if word.startswith(RESTRICTED)), variables)
    os.execve(line[0], line, variables)


if __name__ == "__main__":
    main()
