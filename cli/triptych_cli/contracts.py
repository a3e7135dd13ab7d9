"""Commands for authors of contracts: `triptych digests` and `schema`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from triptych.contract.reading.files import cause, printable_path, resolved
from triptych.contract.schema.json_schema import contract_schema_text
from triptych.contract.verification.tree import CONTRACT, sha256_of, tree_of
from triptych.contract.verification.triton_config import FILE as CONFIG
from triptych_cli.arguments import command_parser

DIGESTS_EXAMPLES = """\
examples:
  triptych digests model-repository/digits_de/1
  triptych digests model-repository/digits_de/1 >> model-repository/digits_de/1/contract.yaml

exit status: 0, or 1 if a file cannot be served or read
"""
SCHEMA_EXAMPLES = """\
examples:
  triptych schema > contract.schema.json       for an editor: # yaml-language-server: $schema=contract.schema.json
"""


def digests(arguments: Sequence[str]) -> int:
    """Print the sha256 of each file of a version. Returns 0, or 1 for faults."""
    description = "Print the field `files` of a version's contract: the sha256 of each of its files, as YAML."
    parser = command_parser("digests", description, DIGESTS_EXAMPLES)
    parser.add_argument("directory", type=Path, metavar="DIR", help="the version's folder, as in digits_de/1")
    version: Path = parser.parse_args(arguments).directory
    if (version / CONFIG).is_file():
        print(f"{version}: is the folder of a model; name one of its versions, as in {version}/1", file=sys.stderr)
        return 1
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
    """Print the JSON Schema of contract.yaml."""
    parser = command_parser("schema", "Print the JSON Schema of contract.yaml.", SCHEMA_EXAMPLES)
    parser.add_argument("--built-in", action="store_true", help="without steps of installed packages")
    sys.stdout.write(contract_schema_text(built_in=parser.parse_args(arguments).built_in))
    return 0
