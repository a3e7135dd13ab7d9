"""`triptych jobs cancel` and `triptych jobs delete`."""

from __future__ import annotations

from collections.abc import Sequence

from triptych_cli.jobs.service import parser_of, with_jobs
from triptych_client.jobs import Jobs

CANCEL_EXAMPLES = """\
examples:
  triptych jobs cancel jobs/0123abcd
"""
DELETE_EXAMPLES = """\
examples:
  triptych jobs delete jobs/0123abcd jobs/4567cdef
"""


def cancel(arguments: Sequence[str]) -> int:
    """Cancel jobs. Returns the exit status."""
    parser = parser_of(
        "cancel", "Cancel jobs. The answers of parts that are done stay until they expire.", CANCEL_EXAMPLES
    )
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="names, as in jobs/0123abcd, or ids")
    given = parser.parse_args(arguments)

    def work(jobs: Jobs) -> int:
        for job in given.jobs:
            jobs.cancel(job)
            status = jobs.get(job)
            print(f"{status.name} {'was cancelled' if status.state == 'cancelled' else f'has ended: {status.state}'}")
        return 0

    return with_jobs(given, work)


def delete(arguments: Sequence[str]) -> int:
    """Delete jobs. Returns the exit status."""
    parser = parser_of("delete", "Delete jobs that have ended, with their answers.", DELETE_EXAMPLES)
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="names, as in jobs/0123abcd, or ids")
    given = parser.parse_args(arguments)

    def work(jobs: Jobs) -> int:
        for job in given.jobs:
            jobs.delete(job)
            print(f"{job} was deleted")
        return 0

    return with_jobs(given, work)
