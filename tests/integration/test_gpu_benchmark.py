"""The GPU benchmark on the CPU, with a small network in numpy."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from benchmarks.gpu.models import GROUPED, GROUPED_THREADS, SEPARATE
from local.environments import ROOT, ensure

WORDS = [
    *("--device", "cpu", "--network", "numpy", "--width", "16", "--depth", "1", "--pictures", "640x480"),
    *("--processes", "1", "2", "--seconds", "1", "--warm-s", "0.5", "--pause-s", "0.5", "--senders", "1"),
    *("--threads", "2", "--instances", "1"),
]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_it_measures_grouped_and_separate_on_the_cpu(tmp_path: Path) -> None:
    words = ["--predictor", str(ensure("predictor")), "--path", sysconfig.get_path("purelib"), *WORDS]
    command = [sys.executable, "-m", "benchmarks.gpu", "--results", str(tmp_path), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    found = {(point["model"], point["processes"]): point for point in results["points"]}
    assert set(found) == {(GROUPED, 1), (GROUPED_THREADS, 1), (SEPARATE, 1), (SEPARATE, 2)}
    assert all(point["rate"] > 0 for point in found.values())
    assert [loaded["model"] for loaded in results["memory"]] == ["photo_quarter", "photo_half", "photo"]
    assert all(loaded["after"]["controller"] > loaded["before"]["controller"] for loaded in results["memory"])
    assert "separate" in (tmp_path / "results.md").read_text()
