"""Render the chart without a cluster. Needs helm, which `make test` builds where there is Go."""

from __future__ import annotations

import json
import re
from functools import cache
from tempfile import NamedTemporaryFile
from typing import Any

import pytest

from tests.chart.objects import Objects, Render
from tools.chart.program import APIS, find, template


@pytest.fixture(autouse=True)
def _helm() -> None:
    if find() is None:
        pytest.skip("needs helm: python3 -m local.programs helm")


@cache
def _rendered(values: str, apis: tuple[str, ...], release: str, namespace: str) -> Objects:
    with NamedTemporaryFile("w", suffix=".json") as file:  # JSON is YAML
        file.write(values)
        file.flush()
        text = template("--values", file.name, apis=apis, release=release, namespace=namespace)
        return Objects(re.sub(r"(?<=\n  key: )[A-Za-z0-9+/=]{44}\n", "bWFkZSBieSB0aGUgY2hhcnQ=\n", text))


@pytest.fixture
def render() -> Render:
    """Render values: `render({"mode": "Grouped"}, apis=...)`. Raises `ProgramFailed`.

    The random key of each render is replaced by `made by the chart`.
    """

    def made(
        values: dict[str, Any] | None = None,
        *,
        apis: tuple[str, ...] = APIS,
        release: str = "triptych",
        namespace: str = "triptych",
    ) -> Objects:
        return _rendered(json.dumps(values or {}), apis, release, namespace)

    return made
