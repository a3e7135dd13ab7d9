"""Make targets that the pages name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.docs.pages import CHANGES, DECISIONS, ROOT, pages

TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
FILES = [file for file in pages() if DECISIONS not in file.parents and file != CHANGES]


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_every_make_target_that_a_page_names_exists(file: Path) -> None:
    text = file.read_text("utf-8")
    code = [*re.findall(r"^ *```.*?^ *```$", text, re.MULTILINE | re.DOTALL), *re.findall(r"`[^`\n]+`", text)]
    named = {target for part in code for target in re.findall(r"(?:^|[`\s])make ([a-z][a-z0-9-]*)", part)}
    assert named <= TARGETS
