"""`python -m benchmarks NAME`: runs one of the benchmarks and writes benchmarks/results/NAME/."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import control_plane, cost, instructions, own, placement, policy, start, transport
from benchmarks.planning import command as plan
from benchmarks.report import RESULTS, Report
from benchmarks.serving import command as serving
from benchmarks.serving import quick
from local.errors import LocalError

COMMANDS = {
    "policy": policy,
    "control-plane": control_plane,
    "cost": cost,
    "placement": placement,
    "serving": serving,
    "quick": quick,
    "plan": plan,
    "transport": transport,
    "own": own,
    "instructions": instructions,
    "start": start,
}


def main() -> int:
    """0: measured and written, or what `quick` and `plan` say; 1: it could not be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name, help=module.HELP, description=module.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        module.arguments(command)
        command.add_argument("--results", type=Path, default=RESULTS, help="where the folder NAME is written")
    given = parser.parse_args()
    module = COMMANDS[given.name]
    report = Report(given.name, module.TITLE, vars(given), given.results / given.name)
    try:
        code: int | None = module.main(given, report)
    except LocalError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if code is None:
        report.write()
    return code or 0


if __name__ == "__main__":
    sys.exit(main())
