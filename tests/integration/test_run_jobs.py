"""`make run JOBS=1 ONCE=1`: one job beside the stack, followed part by part."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from local.endpoints import free_endpoints
from local.environments import ROOT, ensure
from local.jobs import PART_ROWS, ROWS


def test_a_job_is_followed_part_by_part_to_its_end(tmp_path: Path) -> None:
    ensure("predictor")
    variables = {**os.environ}
    for endpoint in free_endpoints().values():
        variables |= endpoint.variables()
    jobs = free_endpoints()["preprocess"]
    variables |= {"JOBS_PORT": str(jobs.port), "JOBS_METRICS_PORT": str(jobs.metrics_port)}
    command = [sys.executable, "-m", "local", "--once", "--jobs", "--logs", str(tmp_path / "logs")]
    ended = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=110)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    shown = [line.strip() for line in ended.stdout.splitlines()]
    parts = [line for line in shown if line.startswith("part ")]
    assert len(parts) == ROWS // PART_ROWS
    assert all(f": {PART_ROWS:,} rows, shop " in line for line in parts)
    assert sum(" succeeded after " in line for line in shown) == 1
