"""The manifest of an output: what answered, how many rows, from which files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.batch.folder import MANIFEST
from jobs.durable_files import sync

FORMAT = "triptych.dev/batch/v1"
MAX_FILES = 1000  # sources by name


@dataclass(frozen=True)
class Manifest:
    """Facts of a run that has ended. Times are RFC 3339 in UTC."""

    run: str
    model: str
    version: int
    contract: str
    rows: int
    bad_rows: int
    parts: int
    started: str
    ended: str
    asked_seconds: float
    sources: Mapping[str, Any]
    inputs: Sequence[str]
    document: Mapping[str, Any]
    summary: Mapping[str, Any] = field(default_factory=dict)  # running summary of the contract
    engine: str = ""  # that has run it; '' on one machine
    format: str = FORMAT

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder, durable."""
        path = folder / MANIFEST
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        sync(path)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an output; None if the folder has none that can be read."""
    try:
        values = json.loads((folder / MANIFEST).read_text("utf-8"))
        return Manifest(**values) if values["format"] == FORMAT else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def time_text(seconds: float) -> str:
    """A time of Unix as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def now_text() -> str:
    """This moment as RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
