"""The command line of `mirror`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from controller.catalog.skipped import log_lines
from controller.store.mirror import Mirror, Progress
from controller.store.objects import open_store
from controller.store.uri import split
from triptych_cli.arguments import duration, typed

TELL_S = 5.0  # between two lines about one long download
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")

DESCRIPTION = """\
Keeps a folder in step with the models in an object store, so that a Triton beside it can read them from there: what is
new comes, what changed is replaced, what was deleted goes, and half of a version is never to be seen. Triton
can read s3:// and gs:// itself; with a folder it also loads when the store is away. The folder must not be a
mount of its own, for versions come by renaming: mount a volume above it.

examples:
  triptych mirror s3://models/eu /mirror/models               beside a Triton, until it is ended
  triptych mirror s3://models/eu /mirror/models --once        before a Triton starts
  AWS_ENDPOINT_URL=http://minio:9000 triptych mirror s3://models/eu models --contracts
"""
EPILOG = """\
The store and its keys come from the usual variables: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_SKIP_SIGNATURE=true without keys; GOOGLE_APPLICATION_CREDENTIALS; or the account of the pod.

exit status: 0 when the folder is in step (--once) or the command was ended, 1 when it is not, 2 for wrong options.
An object that cannot be a file, or cannot be read, is named and left out; the others make the folder in step.
Without --once a store that does not answer is tried again; the folder stays as it is meanwhile.
"""


class Stopped(Exception):
    """Somebody ended the command."""


def main(arguments: Sequence[str]) -> int:
    """Mirrors until SIGTERM or Ctrl-C, or once; returns the exit status."""
    options = parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    teller = Teller(stop.is_set)
    mirror = Mirror(open_store(options.uri), options.folder, whole=options.whole, on_progress=teller.progress)
    return run(mirror, teller, stop, every_s=None if options.once else options.every)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "triptych mirror",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("uri", type=typed(_store), metavar="URI", help="s3://bucket/prefix, gs://bucket/prefix")
    made.add_argument("folder", type=Path, metavar="FOLDER", help="empty, or already a mirror of URI")
    content = made.add_mutually_exclusive_group()
    content.add_argument("--whole", action="store_true", default=True, help="every file, for a Triton (the default)")
    content.add_argument(
        "--contracts",
        action="store_false",
        dest="whole",
        help="config.pbtxt and contract.yaml; other files as empty ones of the same size, as the controller wants it",
    )
    when = made.add_mutually_exclusive_group()
    when.add_argument("--every", type=typed(duration), default=10.0, metavar="TIME", help="between looks; default 10s")
    when.add_argument("--once", action="store_true", help="end when the folder is in step")
    return made


def run(mirror: Mirror, teller: Teller, stop: threading.Event, every_s: float | None) -> int:
    """Refreshes again and again, or once if `every_s` is None; returns the exit status."""
    try:
        while not stop.is_set():
            fault = _refresh(mirror, teller)
            if every_s is None:
                return 1 if fault else 0
            stop.wait(every_s)
    except Stopped:
        pass
    finally:
        mirror.close()
    return 0


def _refresh(mirror: Mirror, teller: Teller) -> bool:
    """Returns whether something is wrong, and tells it."""
    try:
        change = mirror.refresh()
    except OSError as error:
        teller.fault(str(error))
        return True
    teller.left_out(mirror.faults.values())
    teller.well(f"{mirror.folder} is in step with {mirror.store.uri}", change.downloaded, change.removed)
    return False


class Teller:
    """What is to be known, on stderr: a fault once as long as it lasts, a long download now and then."""

    def __init__(self, stopped: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._stopped, self._clock = stopped, clock
        self._fault: str | None = None
        self._left_out: set[str] = set()
        self._silent_until_s = clock() + TELL_S
        self._began = False

    def progress(self, now: Progress) -> None:
        """Called from the downloads; ends them when the command is to end. Raises `Stopped`."""
        if self._stopped():
            raise Stopped
        if self._clock() >= self._silent_until_s:
            came, of = size(now.received_bytes), size(now.total_bytes)
            self._say(f"{now.files} of {now.total_files} files, {came} of {of}")

    def fault(self, text: str) -> None:
        if text != self._fault:
            self._say(f"{text}; what is in the folder stays")
        self._fault = text

    def left_out(self, faults: Collection[str]) -> None:
        """Tells each object that is left out, once as long as that lasts."""
        now = log_lines(faults)
        for fault in sorted(now - self._left_out):
            self._say(f"left out: {fault}")
        self._left_out = now

    def well(self, text: str, downloaded: int, removed: int) -> None:
        """Tells the first time, after a fault, and what changed."""
        if downloaded or removed or self._fault or not self._began:
            self._say(f"{text}: {downloaded} files came, {removed} went")
        self._fault, self._began = None, True
        self._silent_until_s = self._clock() + TELL_S

    def _say(self, text: str) -> None:
        self._silent_until_s = self._clock() + TELL_S
        sys.stderr.write(f"mirror: {text}\n")
        sys.stderr.flush()


def size(count: float) -> str:
    """Bytes for a reader."""
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f} {UNITS[unit]}" if unit else f"{count:.0f} bytes"


def _store(text: str) -> str:
    split(text)
    return text
