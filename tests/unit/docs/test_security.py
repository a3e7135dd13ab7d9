"""The threat table of the page on security."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.docs.pages import ROOT

PAGE = ROOT / "docs/guides/security.md"
NAMED = re.compile(r"`((?:tests/)?[\w/]*test_\w+\.py)(?:::\w+)?`")
SINGLE = re.compile(r"`(tests/[\w/]+\.py)?::(test_\w+)`")


def rows(section: str = "\n## Threats") -> list[str]:
    table = re.split(r"\n##+ ", PAGE.read_text("utf-8").partition(f"{section}\n")[2])[0]
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


def test_each_of_the_first_fifteen_attacks_has_tests_that_exist() -> None:
    found = rows("\n### The first fifteen attacks")
    assert [row.split("|")[1].strip() for row in found] == [str(number) for number in range(1, 16)]
    for row in found:
        named, text = SINGLE.findall(row), ""
        assert len(named) == row.count("::") > 1, row
        for file, test in named:
            text = (ROOT / file).read_text("utf-8") if file else text
            assert f"def {test}(" in text, f"{test}: not in {file or 'the file before it'}, in: {row}"
