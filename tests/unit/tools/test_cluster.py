"""The development cluster: one variable names its command, and nothing needs it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import images
from tools.chart.program import CHART

ROOT = Path(__file__).parents[3]


def test_on_another_cluster_the_images_are_those_of_the_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_CLUSTER", "/nowhere/cluster")
    monkeypatch.delenv("TRIPTYCH_TAG", raising=False)
    nobody: Any = None
    version = next(
        line for line in (CHART / "Chart.yaml").read_text("utf-8").splitlines() if line.startswith("version")
    )
    assert images.ensure(nobody) == version.partition(": ")[2]


def test_one_file_alone_names_a_path_outside_of_the_tree() -> None:
    command = ["git", "grep", "-lF", "../" + "shared/", "--", ":!docs/decisions", ":!*.onnx"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert found == ["tools/cluster.sh"]
