"""Workers that are killed and stopped at eight points, in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from local.environments import ROOT
from tests.integration.postgres import WHERE, program


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ledger", [pytest.param("sqlite", marks=pytest.mark.long), "postgres"])
def test_no_row_is_lost_doubled_or_mixed(ledger: str) -> None:
    if ledger == "postgres" and program("initdb") is None:
        pytest.skip(f"initdb is not installed; {WHERE}")
    command = [sys.executable, "-m", "tests.integration.jobs.kills", ledger, "--kills", "24"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "lost 0, doubled 0, mixed 0" in ended.stdout
