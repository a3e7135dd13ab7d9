"""The command line of `triptych mirror`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from controller.catalog.skipped import log_lines
from controller.store.buckets import open_store
from controller.store.download_progress import DownloadProgress
from controller.store.mirror import Mirror
from controller.store.options import MAX_OBJECTS, StoreOptions, proxy_url
from controller.store.uri import split
from triptych_cli.arguments import argument_type, command_parser, duration, whole_number
from triptych_cli.byte_counts import format_bytes

REPORT_INTERVAL_S = 5.0  # between two lines about one long download

DESCRIPTION = """\
Keep a folder in sync with the models in an object store, for a Triton beside it. New objects are downloaded, changed
ones replaced, deleted ones removed, and a version appears only when it is complete. Triton can read s3:// and gs://
itself; with a folder it also loads while the store is unavailable. The folder must not be a mount point, because
versions are moved into it by renaming: mount a volume above it.

examples:
  triptych mirror s3://models/eu /mirror/models               beside a Triton, until it is stopped
  triptych mirror s3://models/eu /mirror/models --once        before a Triton starts
  AWS_ENDPOINT_URL=http://minio:9000 triptych mirror s3://models/eu models --contracts
"""
EPILOG = """\
The store and its keys come from the usual variables: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_SKIP_SIGNATURE=true without keys; GOOGLE_APPLICATION_CREDENTIALS; or the account of the pod.

exit status: 0 if the folder is in sync (--once) or the command was stopped, 1 if it is not, 2 for wrong options.
An object that cannot be a file, or cannot be read, is named and left out; the others are in sync.
Without --once a store that does not answer is tried again; meanwhile the folder stays as it is.
"""


class Stopped(Exception):
    """The command was stopped by a signal."""


def main(arguments: Sequence[str]) -> int:
    """Mirror until SIGTERM or Ctrl-C, or once. Returns the exit status."""
    options = parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    reporter = DownloadReporter(stop.is_set)
    store = open_store(options.uri, StoreOptions(options.secret, options.ca, options.proxy, options.max_objects))
    mirror = Mirror(store, options.folder, whole=options.whole, on_progress=reporter.progress)
    return run(mirror, reporter, stop, every_s=None if options.once else options.every)


def parser() -> argparse.ArgumentParser:
    made = command_parser("mirror", DESCRIPTION, EPILOG)
    made.add_argument(
        "uri", type=argument_type(_store_uri), metavar="URI", help="s3://bucket/prefix, gs://bucket/prefix"
    )
    made.add_argument("folder", type=Path, metavar="FOLDER", help="empty, or already a mirror of URI")
    content = made.add_mutually_exclusive_group()
    content.add_argument("--whole", action="store_true", default=True, help="every file, for a Triton (the default)")
    content.add_argument(
        "--contracts",
        action="store_false",
        dest="whole",
        help="config.pbtxt and contract.yaml; other files empty, of the same size: as the controller needs it",
    )
    made.add_argument(
        "--secret",
        type=Path,
        metavar="FOLDER",
        help="files with the names of those variables, as Kubernetes mounts a Secret; renewed keys are taken up",
    )
    made.add_argument("--ca", type=Path, metavar="FILE", help="authorities (PEM) to trust beside the public ones")
    made.add_argument(
        "--proxy",
        type=argument_type(proxy_url),
        default="",
        metavar="URL",
        help="http://host:port; without it none is used, also if the environment names one",
    )
    made.add_argument(
        "--max-objects",
        type=whole_number(1, "a number of objects"),
        default=MAX_OBJECTS,
        metavar="N",
        help=f"most objects below URI; beyond them the folder stays as it is; default {MAX_OBJECTS}",
    )
    when = made.add_mutually_exclusive_group()
    when.add_argument(
        "--every",
        type=argument_type(duration),
        default=10.0,
        metavar="TIME",
        help="time between two syncs; default 10s",
    )
    when.add_argument("--once", action="store_true", help="end when the folder is in sync")
    return made


def run(mirror: Mirror, reporter: DownloadReporter, stop: threading.Event, every_s: float | None) -> int:
    """Sync every `every_s` seconds, or once if that is None. Returns the exit status."""
    try:
        while not stop.is_set():
            fault = _refresh(mirror, reporter)
            if every_s is None:
                return 1 if fault else 0
            stop.wait(every_s)
    except Stopped:
        pass
    finally:
        mirror.close()
    return 0


def _refresh(mirror: Mirror, reporter: DownloadReporter) -> bool:
    """Sync once and report. Returns whether that failed."""
    try:
        change = mirror.refresh()
    except OSError as error:
        reporter.failed(str(error))
        return True
    reporter.left_out(mirror.faults.values())
    reporter.synced(f"{mirror.folder} is in sync with {mirror.store.uri}", change.downloaded, change.removed)
    return False


class DownloadReporter:
    """Lines on stderr: a fault once while it lasts, and the progress of a long download every few seconds."""

    def __init__(self, stopped: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._stopped, self._clock = stopped, clock
        self._fault: str | None = None
        self._left_out: set[str] = set()
        self._next_report_s = clock() + REPORT_INTERVAL_S
        self._was_synced = False

    def progress(self, now: DownloadProgress) -> None:
        """Report a download; it is called for each chunk. Raises `Stopped` to end the download."""
        if self._stopped():
            raise Stopped
        if self._clock() >= self._next_report_s:
            received, of = format_bytes(now.received_bytes), format_bytes(now.total_bytes)
            self._write(f"{now.files} of {now.total_files} files, {received} of {of}")

    def failed(self, text: str) -> None:
        if text != self._fault:
            self._write(f"{text}; the folder keeps its content")
        self._fault = text

    def left_out(self, faults: Collection[str]) -> None:
        """Report each object that is left out, once while that lasts."""
        now = log_lines(faults)
        for fault in sorted(now - self._left_out):
            self._write(f"left out: {fault}")
        self._left_out = now

    def synced(self, text: str, downloaded: int, removed: int) -> None:
        """Report the first sync, the first one after a fault, and each one that changed files."""
        if downloaded or removed or self._fault or not self._was_synced:
            self._write(f"{text}: {downloaded} files downloaded, {removed} removed")
        self._fault, self._was_synced = None, True
        self._next_report_s = self._clock() + REPORT_INTERVAL_S

    def _write(self, text: str) -> None:
        self._next_report_s = self._clock() + REPORT_INTERVAL_S
        sys.stderr.write(f"mirror: {text}\n")
        sys.stderr.flush()


def _store_uri(text: str) -> str:
    split(text)
    return text
