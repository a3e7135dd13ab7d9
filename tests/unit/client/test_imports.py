"""Modules that an import of the client brings: no server of ours, and no library that only servers need."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from typing import Final

import pytest

from local.environments import ROOT

SERVERS: Final = {
    "kubernetes", "ngh2", "opentelemetry", "prometheus_client", "pydantic_settings", "pythonjsonlogger", "starlette",
    "uvicorn", "uvloop", "triptych.http2", "triptych.server", "triptych.telemetry", "preprocess", "controller", "jobs",
}  # fmt: skip


@pytest.mark.parametrize("module", ["triptych_client", "triptych_client.homes.local", "triptych_client.jobs"])
def test_the_client_imports_no_server(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(ran.stdout.split())
    assert module in loaded
    assert not loaded & SERVERS
    assert "onnxruntime" not in loaded  # which only a folder needs, once it is asked


def test_the_shared_package_needs_the_libraries_of_servers_only_with_its_extra() -> None:
    project = tomllib.loads((ROOT / "services/triptych/pyproject.toml").read_text("utf-8"))["project"]
    of_servers = set(project["optional-dependencies"]["server"])
    assert {"ngh2", "uvloop", "opentelemetry-sdk", "prometheus_client"} <= of_servers
    assert not of_servers & set(project["dependencies"])
