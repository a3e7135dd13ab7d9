"""The command line of `triptych batch`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from triptych_cli.arguments import command_parser

# Module and help of each action. A module is imported only when its action is called.
ACTIONS = {
    "run": ("triptych_cli.batch.run", "answer every row of a dataset, and write the answers whole or not at all"),
    "plan": ("triptych_cli.batch.plan", "say rows, parts and hours, by a measured sample"),
    "query": ("triptych_cli.batch.query", "ask the records of a run by SQL"),
    "schema": ("triptych_cli.batch.schema", "print the JSON Schema of the document"),
}

# The image of the controller has the command without these, that of jobs with all of them.
NEEDED = ("jobs", "triptych_client", "pyarrow", "duckdb", "sqlalchemy", "asyncpg", "obstore")
PACKAGES = "'./client[local]' './services/jobs[query]'"

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
    parser = command_parser("batch", DESCRIPTION, EXAMPLES)
    lines = "; ".join(f"{name}: {text}" for name, (_, text) in ACTIONS.items())
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help=lines)
    action = parser.parse_args(arguments[:1]).action
    try:
        run: Callable[[Sequence[str]], int] = import_module(ACTIONS[action][0]).main
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        return fail(f"the package {error.name} is missing; pip install {PACKAGES}")
    return run(arguments[1:])


def fail(text: str) -> int:
    """Print why the action failed. Returns the exit status."""
    print(text, file=sys.stderr)
    return 1
