"""The options of tools that call a controller which serves TLS."""

from __future__ import annotations

import argparse
import os

from triptych_cli.remote import Tls


def add(made: argparse.ArgumentParser) -> None:
    """How the controller is called over TLS; in its pod nothing has to be said."""
    group = made.add_argument_group("TLS to the controller (PEM files; in its pod: its own settings)")
    variables = {"ca": "UPSTREAM_CA", "cert": "UPSTREAM_CERT", "key": "UPSTREAM_KEY", "server-name": "REPLICA_NAME"}
    texts = {
        "ca": "authorities that are trusted; without it the call is plaintext",
        "cert": "certificate to show",
        "key": "its private key",
        "server-name": "name in the controller's certificate, where it is called by another",
    }
    for name, text in texts.items():
        default = os.environ.get(f"CONTROLLER_{variables[name]}", "")
        group.add_argument(f"--{name}", default=default, metavar="NAME" if "name" in name else "FILE", help=text)


def given(options: argparse.Namespace) -> Tls | None:
    """What `add` added; None is plaintext. Raises `OSError` with the name of a file that cannot be read."""
    if not options.ca:
        return None
    return Tls.read(options.ca, options.cert, options.key, options.server_name)
