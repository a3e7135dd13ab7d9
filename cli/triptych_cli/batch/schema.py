"""`triptych batch schema`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs.batch.document import document_schema_text
from triptych_cli.arguments import command_parser

EXAMPLES = """\
examples:
  triptych batch schema > batch.schema.json

The first line of a document names it for an editor:
  # yaml-language-server: $schema=batch.schema.json
"""


def main(arguments: Sequence[str]) -> int:
    """Print the JSON Schema of a batch document."""
    command_parser("batch schema", "Print the JSON Schema of a batch document.", EXAMPLES).parse_args(arguments)
    sys.stdout.write(document_schema_text())
    return 0
