"""The command line of `triptych jobs`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from triptych_cli.arguments import command_parser

# Module, function and help of each action. A module is imported only when its action is called.
ACTIONS = {
    "submit": ("triptych_cli.jobs.submit", "main", "upload files and submit a document that reads them"),
    "list": ("triptych_cli.jobs.show", "list_jobs", "show jobs, the newest first"),
    "get": ("triptych_cli.jobs.show", "get", "show one job"),
    "follow": ("triptych_cli.jobs.follow", "main", "show or write the answers of each part as it is done"),
    "cancel": ("triptych_cli.jobs.end", "cancel", "cancel a job; its finished parts stay"),
    "delete": ("triptych_cli.jobs.end", "delete", "delete a job that has ended, with its answers"),
}

NEEDED = ("triptych_client", "pyarrow", "google_crc32c")  # which the image of the controller has not

DESCRIPTION = "Talk to the service of jobs, which answers the rows of files part by part while nobody waits."
EXAMPLES = """\
examples:
  triptych jobs submit job.yaml --file sales=sales.parquet --follow
  triptych jobs list --state running
  triptych jobs follow jobs/0123abcd --out answers.parquet

job.yaml:
  apiVersion: triptych.dev/v1
  kind: Job
  model: sales_forecast_de
  read: {uri: "upload://sales", format: parquet}
  keep: [shop]

Help of each: triptych jobs submit --help
"""


def main(arguments: Sequence[str]) -> int:
    """Run one action. Returns its exit status; a wrong call is 2."""
    parser = command_parser("jobs", DESCRIPTION, EXAMPLES)
    lines = "; ".join(f"{name}: {text}" for name, (_, _, text) in ACTIONS.items())
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help=lines)
    action = parser.parse_args(arguments[:1]).action
    module, function, _ = ACTIONS[action]
    try:
        run: Callable[[Sequence[str]], int] = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        print(f"the package {error.name} is missing; pip install ./services/triptych ./client", file=sys.stderr)
        return 1
    return run(arguments[1:])
