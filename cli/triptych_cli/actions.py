"""Actions of a command, each in a module of its own that is imported only when it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

from triptych_cli.arguments import command_parser


class Action(NamedTuple):
    """Module and function of an action, and its help."""

    module: str
    function: str
    help: str


class Packages(NamedTuple):
    """Packages that the actions of a command need and an image may lack, and what `pip install` takes for them."""

    needed: Collection[str]
    install: str


def run_action(
    command: str,
    description: str,
    examples: str,
    actions: Mapping[str, Action],
    packages: Packages,
    arguments: Sequence[str],
) -> int:
    """Run the action that the first argument names. Returns its exit status; a wrong call is 2."""
    parser = command_parser(command, description, examples)
    lines = "; ".join(f"{name}: {action.help}" for name, action in actions.items())
    parser.add_argument("action", choices=actions, metavar="ACTION", help=lines)
    action = actions[parser.parse_args(arguments[:1]).action]
    try:
        run: Callable[[Sequence[str]], int] = getattr(import_module(action.module), action.function)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in packages.needed:
            raise
        return fail(f"the package {error.name} is missing; pip install {packages.install}")
    return run(arguments[1:])


def fail(text: str, status: int = 1) -> int:
    """Print why an action failed. Returns the exit status."""
    print(text, file=sys.stderr)
    return status
