"""The Python files of the project."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]


def python_files() -> Iterator[str]:
    """Paths relative to the checkout, without those of tests."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return (path for path in listed.splitlines() if not path.startswith("tests/") and (ROOT / path).is_file())
