"""`triptych steps`: print every step, or make a package for a step of one's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from triptych.contract.reading.files import cause
from triptych.contract.schema.json_schema import steps_table
from triptych.contract.steps.registry import vocabulary
from triptych_cli.arguments import argument_type, command_parser
from triptych_cli.steps.package import FILES, class_name, module_name, step_name

EXAMPLES = """\
examples:
  triptych steps
  triptych steps | grep resize
  triptych steps new clamp                     writes steps/clamp
  triptych steps new clamp --into ~/clamp      ... and ln -s ~/clamp steps/clamp

A package below steps/ of the checkout is installed into the local environment by the next command of make, and again
whenever that is renewed. The Dockerfile of the package derives the images of preprocess, postprocess and controller.

exit status: 0, or 1 if the package cannot be written
"""


def main(arguments: Sequence[str]) -> int:
    """Print every step of a contract with its fields, as Markdown; with `new`, write a package."""
    if arguments[:1] == ["new"]:
        return _new(arguments[1:])
    description = "Print every step of a contract with its fields, or make a package for a step of one's own."
    parser = command_parser("steps", description, EXAMPLES)
    parser.add_argument("--built-in", action="store_true", help="without steps of installed packages")
    parser.add_argument("new", nargs="?", choices=["new"], help="`triptych steps new NAME` makes a package")
    sys.stdout.write(steps_table(built_in=parser.parse_args(arguments).built_in))
    return 0


def _new(arguments: Sequence[str]) -> int:
    """Write the package of a new step. Returns 0, or 1 if it cannot be written."""
    parser = command_parser("steps new", "Make a package for a step of one's own, with a test.", EXAMPLES)
    parser.add_argument("name", type=argument_type(_unused), metavar="NAME", help="its op in a contract, as in clamp")
    parser.add_argument("--into", type=Path, metavar="DIR", help="folder of the package; default: steps/NAME")
    given = parser.parse_args(arguments)
    name: str = given.name
    folder: Path = given.into or Path("steps") / name
    try:
        if folder.exists() and any(folder.iterdir()):
            print(f"{folder}: want a folder that is new or empty", file=sys.stderr)
            return 1
        folder.mkdir(parents=True, exist_ok=True)
        words = {"NAME": name, "CLASS": class_name(name), "MODULE": module_name(name)}
        for path, text in FILES.items():
            (folder / _filled(path, words)).write_text(_filled(text, words), encoding="utf-8")
    except OSError as error:
        print(f"{error.filename or folder}: cannot be written: {cause(error)}", file=sys.stderr)
        return 1
    print(f"{folder}: a package with the step '{name}' and a test")
    return 0


def _unused(text: str) -> str:
    """The name of a step that no package has. Raises `ValueError`."""
    name = step_name(text)
    if name in vocabulary():
        raise ValueError(f"there is a step '{name}'; all steps: triptych steps")
    return name


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text
