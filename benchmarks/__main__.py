"""`python -m benchmarks NAME`: run one benchmark and write benchmarks/results/NAME/."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import batch, cost, engines, pictures, plan_check, start, verify
from benchmarks.placement import control_plane, policy
from benchmarks.placement import real_triton as placement
from benchmarks.placement import scale as placement_scale
from benchmarks.report import RESULTS, Report
from benchmarks.serving import command as serving
from benchmarks.serving import quick
from benchmarks.stages import batch_sizes, instructions
from benchmarks.stages import cpu as stage_cpu
from local.errors import LocalError

COMMANDS = {
    "policy": policy,
    "control-plane": control_plane,
    "cost": cost,
    "placement": placement,
    "placement-scale": placement_scale,
    "serving": serving,
    "quick": quick,
    "plan-check": plan_check,
    "stage-cpu": stage_cpu,
    "instructions": instructions,
    "batch-sizes": batch_sizes,
    "start": start,
    "verify": verify,
    "pictures": pictures,
    "batch": batch,
    "engines": engines,
}


def main() -> int:
    """Return 0 if the benchmark was measured and written, 1 if not; `quick` returns its own status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name, help=module.HELP, description=module.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        module.arguments(command)
        command.add_argument("--results", type=Path, default=RESULTS, help="folder in which the folder NAME is written")
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
