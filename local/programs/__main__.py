"""`python3 -m local.programs NAME...` prints the path of each Go program, which is built if it is missing.

For a shell: `$(python3 -m local.programs grpcurl) --help`.
"""

from __future__ import annotations

import sys

from local.errors import LocalError
from local.programs.go_programs import GO_PROGRAMS


def main() -> int:
    """Print a path for each program; name those that are missing, and end with 1."""
    names, missing = sys.argv[1:], 0
    if not names or not set(names) <= GO_PROGRAMS.keys():
        sys.stderr.write(f"usage: python3 -m local.programs NAME...; names: {', '.join(GO_PROGRAMS)}\n")
        return 2
    for name in names:
        try:
            print(GO_PROGRAMS[name].ensure(), flush=True)
        except LocalError as error:
            print(f"{name}: {error}", file=sys.stderr)
            missing = 1
    return missing


if __name__ == "__main__":
    sys.exit(main())
