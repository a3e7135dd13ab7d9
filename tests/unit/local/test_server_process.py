"""A server process: the error when it ends on its own, and no process left after a stop."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local.errors import LocalError
from local.server_process import ServerProcess

StartProcess = Callable[..., ServerProcess]


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[StartProcess]:
    made: list[ServerProcess] = []

    def make(code: str, is_ready: Callable[[], bool] = lambda: False) -> ServerProcess:
        command = [sys.executable, "-c", code]
        process = ServerProcess("preprocess", command, dict(os.environ), "127.0.0.1:1", tmp_path / "log", is_ready)
        process.start()
        made.append(process)
        return process

    yield make
    for process in made:
        process.stop(0)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def died(process: ServerProcess) -> LocalError:
    with pytest.raises(LocalError) as caught:
        wait_for(lambda: process.poll_ready(10))
    return caught.value


def test_a_process_that_ends_is_reported_with_its_code_and_last_lines(
    start_process: StartProcess, tmp_path: Path
) -> None:
    text = str(died(start_process("print('one'); print('two'); raise SystemExit(3)")))
    assert text.startswith("preprocess ended with exit code 3")
    assert str(tmp_path / "log") in text
    assert text.endswith("  | one\n  | two")


def test_a_process_that_was_killed_is_reported_with_the_signal(start_process: StartProcess) -> None:
    process = start_process("import time; time.sleep(60)")
    os.kill(process.pid, 9)
    assert "preprocess was ended by SIGKILL" in str(died(process))


def test_a_process_that_does_not_become_ready_in_time_is_reported(start_process: StartProcess) -> None:
    process = start_process("import time; time.sleep(60)")
    with pytest.raises(LocalError, match="preprocess is not ready after 0 s"):
        process.poll_ready(0)


def test_a_process_that_is_ready_reports_it(start_process: StartProcess) -> None:
    assert start_process("import time; time.sleep(60)", is_ready=lambda: True).poll_ready(0)


def test_a_process_that_ends_at_sigterm_is_not_killed(start_process: StartProcess) -> None:
    process = start_process("import time; time.sleep(60)")
    assert process.stop(10)
    assert process.stop(10), "stopping twice does no harm"


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(
    start_process: StartProcess, tmp_path: Path
) -> None:
    process = start_process(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    wait_for(lambda: (tmp_path / "log").read_text().endswith("\n"))
    child = psutil.Process(int((tmp_path / "log").read_text()))
    assert not process.stop(0.1)
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_process_runs_only_once(start_process: StartProcess) -> None:
    with pytest.raises(LocalError, match="runs already, with process id"):
        start_process("import time; time.sleep(60)").start()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    process = ServerProcess("predictor", ["/nowhere/python"], {}, "127.0.0.1:1", tmp_path / "log", lambda: True)
    with pytest.raises(LocalError, match="predictor: cannot start /nowhere/python: No such file"):
        process.start()
