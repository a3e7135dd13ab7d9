"""Commands about contracts: verify, digests, schema, steps."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from triptych.contract.reading.files import cause, printable_path, resolved
from triptych.contract.schema.json_schema import contract_schema_text, steps_table
from triptych.contract.verification.repository import verify as verify_repository
from triptych.contract.verification.tree import CONTRACT, sha256_of, tree_of


def verify(arguments: Sequence[str]) -> int:
    """Checks a model repository. Exit status: 0, or 1 when it has problems."""
    parser = argparse.ArgumentParser("triptych verify", description="Check every model, version and contract.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="the model repository")
    directory: Path = parser.parse_args(arguments).directory
    report = verify_repository(directory)
    for problem in report.problems:
        print(problem)
    if report.problems:
        print(f"FAILED {directory}: {len(report.problems)} problem(s)", file=sys.stderr)
        return 1
    print(f"OK {report.summary()}")
    return 0


def digests(arguments: Sequence[str]) -> int:
    """Prints the sha256 of each file, as YAML for the end of contract.yaml. Exit status: 0, or 1 for faults."""
    parser = argparse.ArgumentParser("triptych digests", description="Print `files` for the contract of a version.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="the version's folder, as in digits_de/1")
    version: Path = parser.parse_args(arguments).directory
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


def schema(arguments: Sequence[str]) -> int:
    """Prints the JSON Schema of contract.yaml."""
    argparse.ArgumentParser("triptych schema", description="Print the JSON Schema.").parse_args(arguments)
    sys.stdout.write(contract_schema_text())
    return 0


def steps(arguments: Sequence[str]) -> int:
    """Prints every step with its fields, as Markdown."""
    argparse.ArgumentParser("triptych steps", description="Print the table of steps.").parse_args(arguments)
    sys.stdout.write(steps_table())
    return 0
