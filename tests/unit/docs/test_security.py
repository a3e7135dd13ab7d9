"""The threat table of the page on security."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.docs.pages import ROOT

PAGE = ROOT / "docs/guides/security.md"
NAMED = re.compile(r"`((?:tests/)?[\w/]*test_\w+\.py)`")


def rows() -> list[str]:
    table = PAGE.read_text("utf-8").partition("## Threats")[2].partition("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


def test_each_threat_has_a_test_that_exists() -> None:
    """A name without a folder is beside the one before it in the row, or anywhere in tests."""
    assert len(rows()) > 25
    for row in rows():
        named = NAMED.findall(row)
        assert named or "`make " in row, row
        folder = Path()
        for name in named:
            file = ROOT / name if "/" in name else folder / name
            assert file.is_file(), f"{name}: not at {file}, in: {row}"
            folder = file.parent
