"""The argument that names a batch document, and the setting of what may be read."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from jobs.batch.document import BatchDocument, read_document
from jobs.readers.sources import SCHEMES, SourcePolicy

SOURCES = "BATCH_SOURCES"
SOURCES_HELP = f"""\
{SOURCES} limits what may be read: folders and s3://bucket/prefix, separated by blanks; links are followed first.
s3:// and gs:// take their keys from the usual variables, such as AWS_ENDPOINT_URL and AWS_ACCESS_KEY_ID.
"""


def add_document(parser: argparse.ArgumentParser) -> None:
    """Add the argument to a parser."""
    parser.add_argument("document", type=Path, metavar="DOCUMENT", help="the batch document, as in nightly.yaml")


def document_of(given: argparse.Namespace) -> BatchDocument:
    """The document that the arguments name. Raises `DocumentError`."""
    return read_document(given.document)


def source_policy() -> SourcePolicy:
    """The rule of what may be read, by the setting."""
    return SourcePolicy(SCHEMES, tuple(os.environ.get(SOURCES, "").split()))
