"""The service that the commands call: its address, TLS, and what its errors mean for the exit status."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from triptych.runtime.addresses import address_argument
from triptych_cli import tls_options
from triptych_cli.actions import fail
from triptych_cli.arguments import argument_type, command_parser, duration
from triptych_client import AskError, InvalidOptions, RequestFailed, Tls
from triptych_client.jobs import JobFailed, Jobs

VARIABLE = "TRIPTYCH_JOBS"
ADDRESS = "localhost:9003"
FAILED, REFUSED, JOB_FAILED, STOPPED = 1, 2, 3, 130  # the last as shells have it for Ctrl-C
EXIT_STATUS = """\
exit status: 0; 1 if the service does not answer, so that the same command may succeed later; 2 for a call that is wrong
or refused; 3 for a job that has failed or was cancelled; 130 after Ctrl-C
"""


def parser_of(action: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser with the options that say which service is called."""
    made = command_parser(f"jobs {action}", description, f"{examples}\n{EXIT_STATUS}")
    made.add_argument(
        "--address",
        type=argument_type(address_argument),
        default=_default_address(),
        metavar="HOST:PORT",
        help=f"the service of jobs; default: {VARIABLE}, else {ADDRESS}",
    )
    made.add_argument(
        "--retry",
        type=argument_type(duration),
        default=60.0,
        metavar="TIME",
        help="time for which a service that is away or full is asked again; default 60s",
    )
    tls_options.add(made, "jobs")
    return made


def with_jobs(given: argparse.Namespace, work: Callable[[Jobs], int]) -> int:
    """The exit status of work with the service; errors become a sentence on standard error."""
    try:
        is_tls = tls_options.is_wanted(given)
    except OSError as error:
        return fail(str(error), REFUSED)
    try:
        tls = Tls(given.ca, given.cert, given.key, given.server_name) if is_tls else None
        with Jobs(given.address, tls=tls, retry_s=given.retry) as jobs:
            return work(jobs)
    except InvalidOptions as error:
        return fail(str(error), REFUSED)
    except RequestFailed as error:
        return fail(_advised(error, given.address), FAILED if error.is_transient else REFUSED)
    except JobFailed as error:
        return fail(str(error), JOB_FAILED)
    except AskError as error:
        return fail(str(error))


def _advised(error: RequestFailed, address: str) -> str:
    """The sentence of an error, and what to do where the service itself was not reached."""
    if not error.is_of_connection:
        return error.text
    if error.code == "UNIMPLEMENTED":
        return f"{address} is no service of jobs; want the address of `python -m jobs`, by --address or {VARIABLE}"
    return f"no service of jobs answers at {error.text}; --address or {VARIABLE} names another one"


def address_option(given: argparse.Namespace) -> str:
    """` --address HOST:PORT`, if the same command needs it again."""
    return "" if given.address == _default_address() else f" --address {given.address}"


def _default_address() -> str:
    return os.environ.get(VARIABLE) or ADDRESS
