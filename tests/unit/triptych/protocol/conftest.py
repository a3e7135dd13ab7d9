"""Fixtures for tests of the protocol."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from triptych.telemetry import logs


@pytest.fixture
def lines() -> Any:
    """Lines of a stage's log."""
    written: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(self.format(record))

    handler = Keep()
    handler.setFormatter(logs.formatter("test"))
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield written
    logger.removeHandler(handler)
    logger.setLevel(level)
