"""The command line of `triptych jobs`."""

from __future__ import annotations

from collections.abc import Sequence

from triptych_cli.actions import Action, Packages, run_action

ACTIONS = {
    "submit": Action("triptych_cli.jobs.submit", "main", "upload files and submit a document that reads them"),
    "list": Action("triptych_cli.jobs.show", "list_jobs", "show jobs, the newest first"),
    "get": Action("triptych_cli.jobs.show", "get", "show one job"),
    "follow": Action("triptych_cli.jobs.follow", "main", "show or write the answers of each part as it is done"),
    "cancel": Action("triptych_cli.jobs.end", "cancel", "cancel a job; its finished parts stay"),
    "delete": Action("triptych_cli.jobs.end", "delete", "delete a job that has ended, with its answers"),
}

# The image of the controller has the command without these.
PACKAGES = Packages(("triptych_client", "pyarrow", "google_crc32c"), "./services/triptych ./client")

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
    return run_action("jobs", DESCRIPTION, EXAMPLES, ACTIONS, PACKAGES, arguments)
