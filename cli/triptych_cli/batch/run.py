"""`triptych batch run`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Sequence

from jobs.batch.destination import destination_of
from jobs.batch.document import DocumentError
from jobs.batch.engine_run import EngineRun
from jobs.batch.engines.registry import NAMES, engine_of
from jobs.batch.errors import BatchError, Interrupted
from jobs.batch.manifest import Manifest
from jobs.batch.options import RunOptions
from jobs.batch.progress import RunProgress
from jobs.batch.run import BatchRun
from triptych_cli.actions import fail
from triptych_cli.arguments import command_parser
from triptych_cli.batch.document import SOURCES_HELP, add_document, document_of, source_policy
from triptych_cli.batch.progress import RunReporter
from triptych_cli.progress import reporter_of
from triptych_cli.summary import summary_text

STOPPED = 130  # as shells have it for Ctrl-C
USAGE_ERROR = 2

DESCRIPTION = """\
Answer every row of a dataset once, by one version of a model or by those of the traffic. The output appears whole when
all rows are answered. A run that ended early, by Ctrl-C, a kill, a full disk or a server that is away, goes on when the
same command is called again: parts that are committed are not asked twice.

With --engine ray or spark the same document runs on the machines of Ray (RAY_ADDRESS, else a Ray of this machine) or of
Spark (spark-submit, spark-defaults.conf or PYSPARK_SUBMIT_ARGS, else this machine). They share the folder of the output
and those that are read.
"""
EXAMPLES = f"""\
examples:
  triptych batch run nightly.yaml
  triptych batch run nightly.yaml --replace        the output of last night is there
  triptych batch run nightly.yaml --engine ray     on the machines of RAY_ADDRESS
  BATCH_SOURCES=/data/in triptych batch run nightly.yaml

{SOURCES_HELP}
exit status: 0 if the output is there, 1 if the run failed, 2 for a wrong call or document, 130 after Ctrl-C
"""


def main(arguments: Sequence[str]) -> int:
    """Make a run, or go on with it. Returns the exit status."""
    given = parser().parse_args(arguments)
    reporter = reporter_of("batch", quiet=given.quiet)
    try:
        run = _made(given, RunReporter(reporter).show)
        with reporter:
            manifest, was_stopped = asyncio.run(_run(run))
    except DocumentError as error:
        print("\n".join(error.lines), file=sys.stderr)
        return USAGE_ERROR
    except Interrupted as error:
        fail(f"{error}\nthe run has not ended; the same command goes on with it")
        return 1
    except BatchError as error:
        return fail(str(error))
    if manifest is None:
        fail("stopped; the same command goes on")
        return STOPPED if was_stopped else 1
    _print_summary(manifest)
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    made = command_parser("batch run", DESCRIPTION, EXAMPLES)
    add_document(made)
    made.add_argument("--engine", choices=NAMES, metavar="ENGINE", help=f"more than one machine: {', '.join(NAMES)}")
    made.add_argument("--replace", action="store_true", help="put the new output in the place of one that exists")
    made.add_argument("--restart", action="store_true", help="drop a run that has begun, and begin anew")
    made.add_argument("--quiet", action="store_true", help="no progress")
    return made


def _made(given: argparse.Namespace, on_progress: Callable[[RunProgress], None]) -> BatchRun | EngineRun:
    """The run of the arguments. Raises `DocumentError` and `BatchError`."""
    document = document_of(given)
    options = RunOptions(given.replace, given.restart, source_policy())
    if given.engine is None:
        return BatchRun(document, destination_of(document, given.document), options, on_progress)
    destination = destination_of(document, given.document, given.engine)
    return EngineRun(document, destination, engine_of(given.engine), options, on_progress)


async def _run(run: BatchRun | EngineRun) -> tuple[Manifest | None, bool]:
    """The manifest; None if a signal has stopped the run. A second signal ends the process at once."""
    loop, was_stopped = asyncio.get_running_loop(), False

    def stop(number: signal.Signals) -> None:
        nonlocal was_stopped
        was_stopped = True
        loop.remove_signal_handler(number)
        run.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return await run.run(), False
    except Interrupted:
        if was_stopped:
            return None, True
        raise


def _print_summary(manifest: Manifest) -> None:
    where = manifest.document["write"]
    place = where["parquet"] or where["postgres"]["table"]
    bad = f", {manifest.bad_rows} bad rows" if manifest.bad_rows else ""
    versions = "versions by traffic" if manifest.document["trafficKey"] else f"version {manifest.version}"
    print(f"{place}: {manifest.rows} rows{bad} by {manifest.model}, {versions}")
    if manifest.summary:
        print(f"summary: {summary_text(manifest.summary)}")
