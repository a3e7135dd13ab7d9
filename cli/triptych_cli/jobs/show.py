"""`triptych jobs list` and `triptych jobs get`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice

from triptych.contract.reading.files import escaped
from triptych_cli.arguments import whole_number
from triptych_cli.jobs.progress import bad_rows_text
from triptych_cli.jobs.service import parser_of, with_jobs
from triptych_cli.progress import duration_text
from triptych_cli.summary import summary_text
from triptych_client.jobs import Jobs, JobStatus
from triptych_client.jobs.entities import STATES

LIMIT = 20

LIST_EXAMPLES = """\
examples:
  triptych jobs list
  triptych jobs list --state running --limit 100
  triptych jobs list --json | jq -r 'select(.state == "failed") | .name'
"""
GET_EXAMPLES = """\
examples:
  triptych jobs get jobs/0123abcd
  triptych jobs get 0123abcd --json | jq .summary
"""


def list_jobs(arguments: Sequence[str]) -> int:
    """Print a line for each job. Returns the exit status."""
    parser = parser_of("list", "Show jobs, the newest first.", LIST_EXAMPLES)
    parser.add_argument("--state", choices=STATES, help="only jobs in this state")
    parser.add_argument(
        "--limit",
        type=whole_number(1, "a number of jobs"),
        default=LIMIT,
        metavar="N",
        help=f"most jobs; default {LIMIT}",
    )
    parser.add_argument("--json", action="store_true", help="each job as one line of JSON")
    given = parser.parse_args(arguments)

    def work(jobs: Jobs) -> int:
        found = islice(jobs.list(given.state or ""), given.limit)
        for line in map(as_json, found) if given.json else table_lines(found):
            print(line)
        return 0

    return with_jobs(given, work)


def get(arguments: Sequence[str]) -> int:
    """Print one job. Returns the exit status."""
    parser = parser_of("get", "Show one job.", GET_EXAMPLES)
    parser.add_argument("job", metavar="JOB", help="its name, as in jobs/0123abcd, or the id alone")
    parser.add_argument("--json", action="store_true", help="as one line of JSON")
    given = parser.parse_args(arguments)

    def work(jobs: Jobs) -> int:
        status = jobs.get(given.job)
        print(as_json(status) if given.json else "\n".join(job_lines(status)))
        return 0

    return with_jobs(given, work)


def as_json(status: JobStatus) -> str:
    """One line."""
    return json.dumps(asdict(status), ensure_ascii=False)


def table_lines(jobs: Iterable[JobStatus]) -> list[str]:
    """A line for each job, and one with the names of the columns."""
    head = ("job", "state", "model", "version", "parts", "rows", "bad rows", "created")
    rows = [head, *map(_cells, jobs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(status: JobStatus) -> tuple[str, ...]:
    parts = f"{status.committed:,}/{status.parts:,}" + ("+" if status.state == "planning" else "")
    numbers = (parts, f"{status.rows:,}", f"{status.bad_rows:,}")
    version = str(status.version) if status.version else ""
    return (status.name, status.state, escaped(status.model), version, *numbers, time_text(status.created_s))


def job_lines(status: JobStatus) -> list[str]:
    """A job in words, a fact a line."""
    version = f", version {status.version}" if status.version else ""
    known = " known so far" if status.state == "planning" else ""
    facts = {
        "job": status.name,
        "state": status.state,
        "error": escaped(status.error),
        "model": f"{escaped(status.model)}{version}" if status.model else "",
        "request id": escaped(status.request_id),
        "parts": f"{status.committed:,} of {status.parts:,}{known}",
        "rows": f"{status.rows:,}" + (f", {bad_rows_text(status.bad_rows)}" if status.bad_rows else ""),
        "created": time_text(status.created_s),
        "started": time_text(status.started_s),
        "ended": time_text(status.ended_s),
        "took": duration_text(status.ended_s - status.started_s) if status.ended_s and status.started_s else "",
        "expires": time_text(status.expires_s),
        "manifest": status.manifest,
        "summary": summary_text(status.summary),
    }
    width = max(map(len, facts))
    return [f"{name:<{width}}  {text}" for name, text in facts.items() if text]


def time_text(seconds: float) -> str:
    """`2026-12-01 09:30:00Z`, or nothing for a time that has not come."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}" if seconds else ""
