"""`triptych batch query`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.batch.document import DocumentError, read_document
from jobs.batch.errors import BatchError
from jobs.batch.query import query
from triptych.contract.reading.files import escaped
from triptych_cli.actions import fail
from triptych_cli.arguments import command_parser, whole_number

MAX_SHOWN = 100  # rows of a table in the terminal

DESCRIPTION = """\
Ask the records of a run by SQL (DuckDB). The views are `records`, `errors` if the run kept bad rows, and `inputs` if
the document says write.inputs. A query reads these and nothing else: no other files, no extensions.
"""
EXAMPLES = """\
examples:
  triptych batch query "select count(*), avg(total) from records" out/forecasts
  triptych batch query "select code, sentence, count(*) from errors group by all" nightly.yaml
  triptych batch query "describe records" out/forecasts
  triptych batch query "select shop, unnest(units) as day from records" out/forecasts --csv > days.csv

exit status: 0, 1 if the query or the output is wrong, 2 for a wrong call
"""


def main(arguments: Sequence[str]) -> int:
    """Print the answer of a query. Returns the exit status."""
    parser = command_parser("batch query", DESCRIPTION, EXAMPLES)
    parser.add_argument("statement", metavar="SELECT", help="one statement of SQL")
    parser.add_argument(
        "run", nargs="?", default=Path(), type=Path, metavar="RUN", help="the output, or its document (this folder)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="all rows as CSV")
    form.add_argument("--json", action="store_true", help="all rows as JSON, one on each line")
    parser.add_argument(
        "--limit",
        type=whole_number(1, "a number of rows"),
        default=MAX_SHOWN,
        metavar="N",
        help=f"most rows of a table; default {MAX_SHOWN}",
    )
    given = parser.parse_args(arguments)
    try:
        table = query(_output(given.run), given.statement)
    except DocumentError as error:
        return fail("\n".join(error.lines))
    except BatchError as error:
        return fail(str(error))
    if given.csv:
        _print_csv(table)
    elif given.json:
        _print_json(table)
    else:
        _print_table(table, given.limit)
    return 0


def _output(run: Path) -> Path:
    """The output of a run, which a document may name. Raises `BatchError` and `DocumentError`."""
    if run.suffix not in (".yaml", ".yml"):
        return run
    document = read_document(run)
    if not document.write.parquet:
        raise BatchError(f"{run}: its answers are in {document.write.postgres and document.write.postgres.table}")
    return Path(document.write.parquet)


def _print_table(table: Any, limit: int) -> None:
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for field in table.schema:
        is_number = str(field.type).startswith(("int", "uint", "float", "double", "decimal"))
        shown.add_column(Text(escaped(field.name)), justify="right" if is_number else "left", overflow="fold")
    for row in table.slice(0, limit).to_pylist():
        shown.add_row(*(_cell(value) for value in row.values()))
    Console().print(shown)
    if table.num_rows > limit:
        print(f"{limit} of {table.num_rows} rows; --limit, --csv or --json shows more", file=sys.stderr)


def _print_csv(table: Any) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(table.column_names)
    for batch in table.to_batches(max_chunksize=10_000):
        writer.writerows([_text(value) for value in row.values()] for row in batch.to_pylist())


def _print_json(table: Any) -> None:
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            sys.stdout.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")


def _cell(value: Any) -> Text:
    """A value for the terminal: without the control characters that data may hold."""
    return Text("\n".join(map(escaped, _text(value).split("\n"))))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    return str(_plain(value)) if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """A value that JSON has not: bytes as text or their number, others as their text."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return f"{len(value)} bytes"
    return str(value)
