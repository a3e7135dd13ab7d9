"""Fixtures for tests of the controller: empty folders to publish into."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from controller.catalog.entities import Catalog
from tests import model_folders
from tests.unit.controller.placement.harness import read


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def publish(models: Path) -> Callable[..., Path]:
    return partial(model_folders.publish, models)


@pytest.fixture
def catalog(models: Path) -> Catalog:
    """Three models without documents, one of them with two versions."""
    for name in ("sales_de", "sales_fr", "sales_it"):
        model_folders.publish(models, name)
    model_folders.publish(models, "sales_de", 2)
    return read(models)
