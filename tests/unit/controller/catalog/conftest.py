"""Fixtures for tests of the catalog."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.catalog.scanner import Scanner


@pytest.fixture
def scanner(models: Path) -> Scanner:
    return Scanner(models, None)
