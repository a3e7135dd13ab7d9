"""Each command of docs/guides/canary.md is run by a test on a cluster."""

from __future__ import annotations

import re

from local.environments import ROOT
from tests.e2e.documented_commands import PAGE, blocks


def test_every_command_of_the_page_is_run_by_a_test_on_a_cluster() -> None:
    tests = "".join(file.read_text() for file in (ROOT / "tests/e2e").glob("test_*.py"))
    run = {label for label in blocks() if f'"{label}"' in tests}
    assert len(run) > 15
    assert set(blocks()) == run


def test_no_command_of_the_page_is_outside_of_a_labelled_block() -> None:
    text = PAGE.read_text()
    assert text.count("```sh ") == len(blocks()), "two blocks have the same label"
    others = re.findall(
        r"^```(?!sh )(?:\w*)\n(.*?)^```$", re.sub(r"^```sh .*?^```$", "", text, flags=re.M | re.S), re.M | re.S
    )
    assert not [block for block in others if re.search(r"^(kubectl|helm) ", block, re.M)]
