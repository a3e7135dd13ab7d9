"""Regular expressions that mean the same in each Python that is supported."""

from __future__ import annotations

import re

import pytest

from tests.unit.tools.tracked_files import ROOT, python_files

# Early Pythons 3.11 lose what is captured after such a group (python/cpython#101955). Debian 12's of April 2025 refused
# every config.pbtxt.
POSSESSIVE_GROUP = re.compile(r"""\)[*+?]\+|\(\?>""")


@pytest.mark.parametrize(("pattern", "is_one"), [(r"(?:a|b)*+", True), ("(?>a)", True), ("(a)+b", False)])
def test_a_possessive_group_is_found(pattern: str, is_one: bool) -> None:
    assert bool(POSSESSIVE_GROUP.search(pattern)) == is_one


def test_no_pattern_has_a_possessive_group() -> None:
    lines = [
        f"{path}: {line.strip()}"
        for path in python_files()
        for line in (ROOT / path).read_text(encoding="utf-8").splitlines()
        if re.search(r"""\br["']|re\.""", line) and POSSESSIVE_GROUP.search(line)
    ]
    assert lines == []
