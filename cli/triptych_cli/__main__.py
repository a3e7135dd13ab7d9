"""`triptych COMMAND`: one command line for models, rollouts and a running controller."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from triptych import __version__

# Each command is a module with `main(arguments) -> exit status`; loaded only when it is called.
COMMANDS = {
    "verify": ("triptych_cli.contracts", "verify", "check every model, version and contract of a model repository"),
    "digests": ("triptych_cli.contracts", "digests", "print `files` for the contract of a version"),
    "schema": ("triptych_cli.contracts", "schema", "print the JSON Schema of contract.yaml"),
    "steps": ("triptych_cli.contracts", "steps", "print the table of a contract's steps, as Markdown"),
    "rollout": ("triptych_cli.rollout.command", "main", "give a version its share step by step, and take it back"),
    "mirror": ("triptych_cli.mirror.command", "main", "keep a folder in step with an object store"),
    "top": ("triptych_cli.top.command", "main", "show what each predictor holds, and what was decided lately"),
}

EPILOG = """\
examples:
  triptych verify model-repository
  triptych top --address localhost:9002
  triptych rollout digits_gb --to 2 --steps 25,50,100 --hold 60s --documents manifests/served-models
  triptych mirror s3://models/eu /mirror/models --once
"""


def parser() -> argparse.ArgumentParser:
    """The commands with a line each; a command's own --help says the rest."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {line}" for name, (_, _, line) in COMMANDS.items())
    made = argparse.ArgumentParser(
        "triptych",
        usage="triptych COMMAND [OPTIONS]",
        description=f"commands, each with a --help of its own:\n{lines}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=__version__)
    made.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status. Wrong usage is 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = parser().parse_args(words[:1]).command
    module, function, _ = COMMANDS[chosen]
    run: Callable[[Sequence[str]], int] = getattr(import_module(module), function)
    return run(words[1:])


if __name__ == "__main__":
    sys.exit(main())
