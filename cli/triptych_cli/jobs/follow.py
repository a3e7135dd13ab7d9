"""`triptych jobs follow`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from triptych_cli.actions import fail
from triptych_cli.jobs.output import Output, output_of
from triptych_cli.jobs.progress import JobProgress, StatusWatch, rows_text
from triptych_cli.jobs.service import STOPPED, address_option, parser_of, with_jobs
from triptych_cli.progress import reporter_of
from triptych_cli.summary import summary_text
from triptych_client.jobs import Jobs, PartAnswers
from triptych_client.jobs.entities import operation_name

DESCRIPTION = """\
Show a line for each part of a job as it is done, or write the answers. A connection that breaks is made again. Ctrl-C
leaves the job as it is.
"""
EXAMPLES = """\
examples:
  triptych jobs follow jobs/0123abcd
  triptych jobs follow jobs/0123abcd --out answers            a file for each part; the same command goes on
  triptych jobs follow jobs/0123abcd --out answers.parquet    all answers in one file, once the job is done
"""


def main(arguments: Sequence[str]) -> int:
    """Follow a job to its end. Returns the exit status."""
    parser = parser_of("follow", DESCRIPTION, EXAMPLES)
    parser.add_argument("job", metavar="JOB", help="its name, as in jobs/0123abcd, or the id alone")
    add_output(parser)
    given = parser.parse_args(arguments)
    return with_jobs(given, lambda jobs: follow(jobs, operation_name(given.job), given))


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options of following."""
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="a folder, or a file that ends in .arrow or .parquet, for the answers"
    )
    parser.add_argument("--replace", action="store_true", help="put the answers in the place of a file that exists")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def follow(jobs: Jobs, job: str, given: argparse.Namespace) -> int:
    """Show or write the answers of a job. Returns the exit status."""
    output = output_of(given.out, job, replace=given.replace) if given.out is not None else None
    done = False
    try:
        with reporter_of("jobs", quiet=given.quiet) as reporter, StatusWatch(jobs, job, JobProgress(reporter)):
            for part in jobs.follow(job, output.position if output else 0, in_order=bool(output and output.in_order)):
                if output is None:
                    print(part_text(part), flush=True)
                else:
                    output.write(part)
        done = True
    except KeyboardInterrupt:
        return left(job, given)
    finally:
        if output is not None and not done:
            fail(output.abandon())
    return ended(jobs, job, output)


def ended(jobs: Jobs, job: str, output: Output | None = None) -> int:
    """Print what has become of a job that has succeeded. Returns the exit status."""
    if output is not None:
        print(output.finish())
    status = jobs.get(job)
    rows = rows_text(status.rows, status.bad_rows)
    print(f"{job} has succeeded: {rows} by {status.model}, version {status.version}")
    if status.summary:
        print(f"summary: {summary_text(status.summary)}")
    return 0


def left(job: str, given: argparse.Namespace) -> int:
    """Say how a job that goes on is followed again. Returns the exit status."""
    out = f" --out {given.out}" if getattr(given, "out", None) is not None else ""
    with suppress(BrokenPipeError):
        fail(f"{job} goes on; follow it again by: triptych jobs follow {job}{out}{address_option(given)}")
    return STOPPED


def part_text(part: PartAnswers) -> str:
    """`part 3: 1,000 rows, 2 bad rows; sum of total 3.5`."""
    summary = f"; {summary_text(part.summary)}" if part.summary else ""
    return f"part {part.part}: {rows_text(part.rows, part.bad_rows)}{summary}"
