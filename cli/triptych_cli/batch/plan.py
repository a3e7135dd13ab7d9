"""`triptych batch plan`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs.batch.document import DocumentError
from jobs.batch.errors import BatchError
from jobs.batch.estimate import Estimate, estimate
from triptych_cli.actions import fail
from triptych_cli.arguments import argument_type, command_parser, duration
from triptych_cli.batch.document import SOURCES_HELP, add_document, document_of, source_policy
from triptych_cli.batch.run import USAGE_ERROR
from triptych_cli.byte_counts import format_bytes
from triptych_cli.progress import duration_text

DESCRIPTION = """\
Check a document against its dataset and model, count rows and parts, and measure a sample. Nothing is written.
"""
EXAMPLES = f"""\
examples:
  triptych batch plan nightly.yaml
  triptych batch plan nightly.yaml --deadline 2h       ... and how many such machines that takes
  triptych batch plan nightly.yaml --sample 30s        a longer sample

{SOURCES_HELP}
exit status: 0, 1 if the run would be refused, 2 for a wrong call or document
"""


def main(arguments: Sequence[str]) -> int:
    """Print the estimate of a run. Returns the exit status."""
    parser = command_parser("batch plan", DESCRIPTION, EXAMPLES)
    add_document(parser)
    parser.add_argument("--deadline", type=argument_type(duration), metavar="TIME", help="as in 30m or 2h")
    parser.add_argument(
        "--sample", type=argument_type(duration), default=5.0, metavar="TIME", help="time of the sample; default 5s"
    )
    given = parser.parse_args(arguments)
    try:
        print("\n".join(lines_of(estimate(document_of(given), source_policy(), given.sample), given.deadline)))
    except DocumentError as error:
        print("\n".join(error.lines), file=sys.stderr)
        return USAGE_ERROR
    except BatchError as error:
        return fail(str(error))
    return 0


def lines_of(found: Estimate, deadline_s: float | None) -> list[str]:
    """The estimate in words."""
    files = f"{found.files:,} file{'s' if found.files > 1 else ''} of {found.format}"
    versions = "versions by traffic" if found.version is None else f"version {found.version}"
    lines = [
        f"model    {found.model}, {versions}",
        f"dataset  {files}, {format_bytes(found.size_bytes)}, {found.rows:,} rows",
        f"parts    {found.parts:,}",
    ]
    if found.seconds is None or found.rows_per_s is None:
        return [*lines, "time     unknown: no row of the sample could be measured"]
    sample = f"a sample of {found.sample_rows:,} rows at {found.rows_per_s:,.0f} rows/s"
    lines.append(f"time     {duration_text(found.seconds)} on this machine, by {sample}")
    if deadline_s is not None:
        workers = found.workers(deadline_s)
        machines = "such machine" if workers == 1 else "such machines"
        lines.append(f"workers  {workers} {machines} for {duration_text(deadline_s)}")
    return lines
