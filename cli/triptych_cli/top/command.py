"""The command line of `triptych top`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from triptych.runtime.addresses import address_argument
from triptych_cli import tls_options
from triptych_cli.arguments import argument_type, command_parser, duration
from triptych_cli.controller_client import ControllerClient, ControllerUnavailable
from triptych_cli.top.snapshot import SORTS, Snapshot, as_json, take_snapshot
from triptych_cli.top.tables import render

PIPE_WIDTH = 500  # columns, so that nothing is cut off in a pipe

DESCRIPTION = """\
Show the models that each predictor has loaded, its use of memory, each model's traffic, aliases and last use, and
the controller's last decisions with their reasons. Ctrl-C ends it.

examples:
  triptych top --sort rate
  triptych top --once --json | jq '.loaded_models[] | select(.pinned)'
"""
EPILOG = """\
sort orders: model, predictor, bytes (largest first), rate (busiest first), used (last used first), idle (longest first)

exit status: 0, or 1 when the controller does not answer (with --once)
"""


def main(arguments: Sequence[str]) -> int:
    """Show snapshots until Ctrl-C, or one. Returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        client = ControllerClient(options.address, tls_options.credentials(options))
    except OSError as error:
        sys.stderr.write(f"top: {error}\n")
        return 1
    try:
        if options.once:
            return _once(client, options)
        if options.json:
            return _lines(client, options)
        return _live(client, options)
    except KeyboardInterrupt:
        return 0
    finally:
        client.close()


def parser() -> argparse.ArgumentParser:
    made = command_parser("top", DESCRIPTION, EPILOG)
    made.add_argument(
        "--address",
        type=argument_type(address_argument),
        default="127.0.0.1:9002",
        metavar="HOST:PORT",
        help="the controller; default 127.0.0.1:9002",
    )
    made.add_argument("--once", action="store_true", help="one complete snapshot, then end")
    made.add_argument("--json", action="store_true", help="each snapshot as one line of JSON")
    made.add_argument("--sort", choices=SORTS, default="model", help="order of the models; default model")
    made.add_argument(
        "--interval",
        type=argument_type(duration),
        default=1.0,
        metavar="TIME",
        help="time between snapshots; default 1s",
    )
    tls_options.add(made)
    return made


def _once(client: ControllerClient, options: argparse.Namespace) -> int:
    try:
        shown = _poll(client, options.sort)
    except ControllerUnavailable as error:
        sys.stderr.write(f"top: {error}; --address names it\n")
        return 1
    if options.json:
        sys.stdout.write(_line(shown))
    else:
        Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(render(shown))
    return 0


def _lines(client: ControllerClient, options: argparse.Namespace) -> int:
    while True:
        try:
            sys.stdout.write(_line(_poll(client, options.sort)))
            sys.stdout.flush()
        except ControllerUnavailable as error:
            sys.stderr.write(f"top: {error}\n")
        time.sleep(options.interval)


def _live(client: ControllerClient, options: argparse.Namespace) -> int:
    """Redraw the screen until Ctrl-C; while the controller does not answer, show why."""
    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                live.update(render(_poll(client, options.sort), console.height), refresh=True)
            except ControllerUnavailable as error:
                live.update(Text(str(error), "red"), refresh=True)
            time.sleep(options.interval)


def _poll(client: ControllerClient, sort: str) -> Snapshot:
    reply = client.describe()
    return take_snapshot(client.address, reply, client.models(), sort)


def _line(shown: Snapshot) -> str:
    return json.dumps(as_json(shown), ensure_ascii=False) + "\n"
