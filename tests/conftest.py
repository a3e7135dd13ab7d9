"""Shared pytest hooks: a marker by folder, and a summary of skipped tests by reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its folder below tests/, as in `-m component`."""
    for item in items:
        item.add_marker(item.path.relative_to(HERE).parts[0])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write one line per reason; `-rs` of pytest writes one per place in the code."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}")
