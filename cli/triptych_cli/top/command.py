"""The command line of `top`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from triptych.runtime.addresses import argument
from triptych_cli import tls_options
from triptych_cli.arguments import duration, typed
from triptych_cli.remote import Remote, RemoteError
from triptych_cli.top.frame import SORTS, Frame, as_json, frame
from triptych_cli.top.picture import render

PIPE_WIDTH = 500  # nothing is cut off for a program that reads it

DESCRIPTION = """\
Shows what each Triton holds, how full it is, which models were used last, with which traffic, and what the controller
decided lately and why. Ctrl-C ends it.

examples:
  triptych top --sort rate
  triptych top --once --json | jq '.residents[] | select(.pinned)'
"""
EPILOG = """\
sort orders: model, predictor, bytes (largest first), rate (busiest first), used (last used first), idle (longest first)

exit status: 0, or 1 when the controller does not answer (with --once)
"""


def main(arguments: Sequence[str]) -> int:
    """Shows frames until Ctrl-C, or one; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        remote = Remote(options.address, tls_options.given(options))
    except OSError as error:
        sys.stderr.write(f"top: {error}\n")
        return 1
    try:
        if options.once:
            return _once(remote, options)
        if options.json:
            return _lines(remote, options)
        return _live(remote, options)
    except KeyboardInterrupt:
        return 0
    finally:
        remote.close()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "triptych top",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--address",
        type=typed(argument),
        default="127.0.0.1:9002",
        metavar="HOST:PORT",
        help="default 127.0.0.1:9002",
    )
    made.add_argument("--once", action="store_true", help="one frame with everything, then end")
    made.add_argument("--json", action="store_true", help="each frame as one line of JSON")
    made.add_argument("--sort", choices=SORTS, default="model", help="order of the residents; default model")
    made.add_argument(
        "--interval", type=typed(duration), default=1.0, metavar="TIME", help="between frames; default 1s"
    )
    tls_options.add(made)
    return made


def _once(remote: Remote, options: argparse.Namespace) -> int:
    try:
        shown = _look(remote, options.sort)
    except RemoteError as error:
        sys.stderr.write(f"top: {error}; --address names it\n")
        return 1
    if options.json:
        sys.stdout.write(_line(shown))
    else:
        Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(render(shown))
    return 0


def _lines(remote: Remote, options: argparse.Namespace) -> int:
    while True:
        try:
            sys.stdout.write(_line(_look(remote, options.sort)))
            sys.stdout.flush()
        except RemoteError as error:
            sys.stderr.write(f"top: {error}\n")
        time.sleep(options.interval)


def _live(remote: Remote, options: argparse.Namespace) -> int:
    """On the whole screen; a controller that goes away is named, and waited for."""
    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                live.update(render(_look(remote, options.sort), console.height), refresh=True)
            except RemoteError as error:
                live.update(Text(str(error), "red"), refresh=True)
            time.sleep(options.interval)


def _look(remote: Remote, sort: str) -> Frame:
    reply = remote.describe()
    return frame(remote.address, reply, remote.models(), sort)


def _line(shown: Frame) -> str:
    return json.dumps(as_json(shown), ensure_ascii=False) + "\n"
