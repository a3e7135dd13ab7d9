"""`python -m triptych.contract verify DIR | digests DIR | schema | steps`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from triptych.contract.files import cause, printable_path, resolved
from triptych.contract.json_schema import contract_schema_text, steps_table
from triptych.contract.tree import CONTRACT, sha256_of, tree_of
from triptych.contract.verify import verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 when a repository has problems."""
    parser = argparse.ArgumentParser(prog="python -m triptych.contract", description="Contracts of model versions.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("verify", help="check every model, version and contract of a repository")
    check.add_argument("directory", type=Path, metavar="DIR", help="the model repository")
    digests = commands.add_parser("digests", help="print `files` for the contract of a version")
    digests.add_argument("directory", type=Path, metavar="DIR", help="the version's folder, as in digits_de/1")
    commands.add_parser("schema", help="print the JSON Schema of contract.yaml")
    commands.add_parser("steps", help="print every step with its fields, as Markdown")
    chosen = parser.parse_args(arguments)
    if chosen.command == "verify":
        return _verify(chosen.directory)
    if chosen.command == "digests":
        return _digests(chosen.directory)
    sys.stdout.write(contract_schema_text() if chosen.command == "schema" else steps_table())
    return 0


def _verify(directory: Path) -> int:
    report = verify(directory)
    for problem in report.problems:
        print(problem)
    if report.problems:
        print(f"FAILED {directory}: {len(report.problems)} problem(s)", file=sys.stderr)
        return 1
    print(f"OK {report.summary()}")
    return 0


def _digests(version: Path) -> int:
    """The sha256 of each file, as YAML to be put at the end of contract.yaml."""
    try:
        found = tree_of(version, resolved(version.parent.parent))
        files = [file.path for file in found.files if file.path != CONTRACT]
        lines = [f"  {json.dumps(path)}: {sha256_of(f'{version}/{path}')}" for path in files]
    except OSError as error:
        print(f"{printable_path(error.filename)}: cannot be read: {cause(error)}", file=sys.stderr)
        return 1
    for fault in found.faults:
        print(f"{version}/{fault}", file=sys.stderr)
    print("\n".join(["files:", *lines]))
    return 1 if found.faults or not lines else 0


if __name__ == "__main__":
    sys.exit(main())
