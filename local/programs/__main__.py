"""`python3 -m local.programs NAME...` prints the path of each program: a Go program is built if it is missing.

`chromium` and `postgres` (its initdb) are Debian's packages, installed by root alone.

For a shell: `$(python3 -m local.programs grpcurl) --help`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from local.errors import LocalError
from local.prerequisites import browser, postgres
from local.programs.go_programs import GO_PROGRAMS

PROGRAMS: dict[str, Callable[[], Path]] = {name: each.ensure for name, each in GO_PROGRAMS.items()}
PROGRAMS["chromium"] = browser
PROGRAMS["postgres"] = postgres


def main() -> int:
    """Print a path for each program; name those that are missing, and end with 1."""
    names, missing = sys.argv[1:], 0
    if not names or not set(names) <= PROGRAMS.keys():
        sys.stderr.write(f"usage: python3 -m local.programs NAME...; names: {', '.join(PROGRAMS)}\n")
        return 2
    for name in names:
        try:
            print(PROGRAMS[name](), flush=True)
        except LocalError as error:
            print(f"{name}: {error}", file=sys.stderr)
            missing = 1
    return missing


if __name__ == "__main__":
    sys.exit(main())
