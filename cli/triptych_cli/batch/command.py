"""The command line of `triptych batch`."""

from __future__ import annotations

from collections.abc import Sequence

from triptych_cli.actions import Action, Packages, run_action

ACTIONS = {
    "run": Action(
        "triptych_cli.batch.run", "main", "answer every row of a dataset, and write the answers whole or not at all"
    ),
    "plan": Action("triptych_cli.batch.plan", "main", "say rows, parts and hours, by a measured sample"),
    "query": Action("triptych_cli.batch.query", "main", "ask the records of a run by SQL"),
    "schema": Action("triptych_cli.batch.schema", "main", "print the JSON Schema of the document"),
}

# The image of the controller has the command without these, that of jobs with all of them.
PACKAGES = Packages(
    ("jobs", "triptych_client", "pyarrow", "duckdb", "sqlalchemy", "asyncpg", "obstore"),
    "'./client[local]' './services/jobs[query]'",
)

DESCRIPTION = """\
Answer the rows of files by a model: by preprocess at an address, or by a model folder without any server. A document
says what is read, asked and written. A run is on this machine, or on those of Ray or Spark.
"""
EXAMPLES = """\
examples:
  triptych batch plan nightly.yaml
  triptych batch run nightly.yaml
  triptych batch query "select shop, total from records order by total desc limit 5" out/forecasts

nightly.yaml:
  apiVersion: triptych.dev/v1
  kind: Batch
  model: sales_forecast_de
  home: {repository: model-repository}      or {address: "localhost:9000"}
  read: {uri: data/*.parquet}
  keep: [shop]
  write: {parquet: out/forecasts}

Help of each: triptych batch run --help
"""


def main(arguments: Sequence[str]) -> int:
    """Run one action. Returns its exit status; a wrong call is 2."""
    return run_action("batch", DESCRIPTION, EXAMPLES, ACTIONS, PACKAGES, arguments)
