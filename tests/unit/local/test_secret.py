"""A secret is removed from the process list once its process has read it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.secret import hide_argument

KEY = "kept-from-other-users"
PROGRAM = "import sys; key = sys.argv[1]; print('read', flush=True); sys.stdin.read(); print(key)"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, f"--key={KEY}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "read\n"
        yield started
        started.kill()


def test_the_process_keeps_what_the_list_has_lost(process: subprocess.Popen[str]) -> None:
    listed = Path(f"/proc/{process.pid}/cmdline")
    assert KEY in listed.read_text()
    assert hide_argument(process.pid, KEY)
    assert KEY not in listed.read_text()
    assert f"--key={'*' * len(KEY)}" in listed.read_text()
    assert process.communicate()[0] == f"--key={KEY}\n"


def test_a_process_without_the_secret_is_left_as_it_is(process: subprocess.Popen[str]) -> None:
    before = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert hide_argument(process.pid, "another")
    assert Path(f"/proc/{process.pid}/cmdline").read_bytes() == before


def test_a_process_that_may_not_be_changed_is_reported() -> None:
    assert not hide_argument(2**22 + 1, KEY)
