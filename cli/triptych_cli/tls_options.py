"""Command line options for a server with TLS."""

from __future__ import annotations

import argparse
import os

from triptych_cli.controller_client import TlsCredentials


def add(made: argparse.ArgumentParser, server: str = "controller") -> None:
    """Add the options. In the server's pod its own settings are the defaults."""
    group = made.add_argument_group(f"TLS to the {server} (PEM files; defaults in its pod: its own settings)")
    variables = {"ca": "UPSTREAM_CA", "cert": "UPSTREAM_CERT", "key": "UPSTREAM_KEY", "server-name": "REPLICA_NAME"}
    texts = {
        "ca": "trusted authorities; without it the call is plaintext",
        "cert": "client certificate",
        "key": "private key of the client certificate",
        "server-name": f"name in the certificate of the {server}, if it differs from the address",
    }
    for name, text in texts.items():
        default = os.environ.get(f"{server.upper()}_{variables[name]}", "")
        group.add_argument(f"--{name}", default=default, metavar="NAME" if "name" in name else "FILE", help=text)


def is_wanted(options: argparse.Namespace) -> bool:
    """Whether the call is by TLS. Raises `OSError` for a certificate that a plaintext call would not show."""
    if not options.ca and (options.cert or options.key):
        raise OSError("--cert and --key want --ca beside them: without it the call is plaintext")
    return bool(options.ca)


def credentials(options: argparse.Namespace) -> TlsCredentials | None:
    """Credentials from the options; None is plaintext. Raises `OSError` with the name of a wrong file."""
    if not is_wanted(options):
        return None
    return TlsCredentials.read(options.ca, options.cert, options.key, options.server_name)
