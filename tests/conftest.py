"""Shared pytest hooks: a marker by folder, the share of each process, and a summary of skipped tests by reason."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

HERE = Path(__file__).parent
LONG = {"long", "engines"}  # markers of what `make test-long` and `make test-engines` run


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with its folder below tests/, as in `-m component`. Leave out the long ones without `LONG`."""
    for item in items:
        item.add_marker(item.path.relative_to(HERE).parts[0])
    if not os.environ.get("LONG"):
        kept: list[pytest.Item] = []
        left_out: list[pytest.Item] = []
        for item in items:
            is_long = bool(LONG & {marker.name for marker in item.iter_markers()})
            (left_out if is_long else kept).append(item)
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


class FileByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each file to one process, and those of tests/integration to the same one: they start whole stacks.

    Two stacks are too much load. In the folders below it, no test starts one.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = file.rpartition("/")[0]
        return folder if folder == "tests/integration" else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileByFile:
    """Name the scheduler of `--numprocesses`, which starts with the largest share."""
    return FileByFile(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write one line per reason; `-rs` of pytest writes one per place in the code."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}")
