"""`triptych jobs submit`."""

from __future__ import annotations

import argparse
import shlex
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from triptych_cli.actions import fail
from triptych_cli.arguments import argument_type, duration
from triptych_cli.byte_counts import format_bytes
from triptych_cli.jobs.follow import add_output, ended, follow, left
from triptych_cli.jobs.progress import EVERY_S, JobProgress
from triptych_cli.jobs.service import STOPPED, address_option, parser_of, with_jobs
from triptych_cli.progress import Progress, reporter_of
from triptych_client import RequestFailed
from triptych_client.jobs import Jobs

DESCRIPTION = """\
Upload files, submit a document that reads them as upload://NAME, and print the name of the job. A wrong document is
refused before anything is uploaded. An upload that broke off goes on with the same --request-id.
"""
EXAMPLES = """\
examples:
  triptych jobs submit job.yaml --file sales=sales.parquet
  triptych jobs submit job.yaml --file sales=sales.parquet --follow --out answers.parquet
  triptych jobs submit job.yaml --deadline 2h --keep 24h --wait
"""


def main(arguments: Sequence[str]) -> int:
    """Submit a job. Returns the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.out is not None and not given.follow:
        parser.error("--out is for --follow")
    if len({name for name, _ in given.file}) < len(given.file):
        parser.error("--file: want each NAME once")
    again = list(arguments)
    if not given.request_id:
        given.request_id = uuid.uuid4().hex
        again.append(f"--request-id={given.request_id}")
    return with_jobs(given, lambda jobs: _submit(jobs, given, shlex.join(["triptych", "jobs", "submit", *again])))


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("submit", DESCRIPTION, EXAMPLES)
    parser.add_argument("document", type=Path, metavar="DOCUMENT", help="the job, in YAML or JSON")
    parser.add_argument(
        "--file",
        type=argument_type(_file),
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a file that the document reads as upload://NAME; may be repeated",
    )
    parser.add_argument("--request-id", default="", metavar="ID", help="the same one gives the same job; default: new")
    parser.add_argument(
        "--deadline", type=argument_type(duration), default=0.0, metavar="TIME", help="the job fails if it takes longer"
    )
    parser.add_argument(
        "--keep",
        type=argument_type(duration),
        default=0.0,
        metavar="TIME",
        help="answers are kept that long after the end; default: as the service has it",
    )
    parser.add_argument("--background", action="store_true", help="serve it while no other job has anything to do")
    then = parser.add_mutually_exclusive_group()
    then.add_argument("--follow", action="store_true", help="then show or write the answers, as `jobs follow` does")
    then.add_argument("--wait", action="store_true", help="then wait for its end")
    add_output(parser)
    return parser


def _submit(jobs: Jobs, given: argparse.Namespace, again: str) -> int:
    """`again` is the command that continues the upload."""
    try:
        job = _uploaded(jobs, given)
    except (KeyboardInterrupt, RequestFailed) as error:
        if given.file and (isinstance(error, KeyboardInterrupt) or error.is_transient):
            fail(f"not submitted; this goes on where it ended: {again}")
        if isinstance(error, RequestFailed):
            raise
        return STOPPED
    print(job, flush=True)
    if given.follow:
        return follow(jobs, job, given)
    if given.wait:
        return _wait(jobs, job, given)
    print(f"follow it by: triptych jobs follow {job}{address_option(given)}", file=sys.stderr)
    return 0


def _uploaded(jobs: Jobs, given: argparse.Namespace) -> str:
    """The name of the job, once its files are uploaded."""
    with reporter_of("jobs", quiet=given.quiet) as reporter:

        def on_upload(name: str, there: int, size: int) -> None:
            text = f"upload {name}: {format_bytes(there)} of {format_bytes(size)}"
            reporter.show(Progress(text, there, size, there == size))

        return jobs.submit(
            given.document,
            files=dict(given.file),
            request_id=given.request_id,
            keep_s=given.keep,
            deadline_s=given.deadline,
            background=given.background,
            on_upload=on_upload,
        )


def _wait(jobs: Jobs, job: str, given: argparse.Namespace) -> int:
    try:
        with reporter_of("jobs", quiet=given.quiet) as reporter:
            jobs.wait(job, on_status=JobProgress(reporter).show, every_s=EVERY_S)
    except KeyboardInterrupt:
        return left(job, given)
    return ended(jobs, job)


def _file(text: str) -> tuple[str, Path]:
    """`NAME=PATH`. Raises `ValueError`."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise ValueError(f"want NAME=PATH, as in sales=sales.parquet for upload://sales, got '{text}'")
    return name, Path(path)
