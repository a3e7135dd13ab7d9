"""One process of the chain: what is said when it dies, and that nothing of it is left."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local.errors import LocalError
from local.part import Part

MakePart = Callable[..., Part]


@pytest.fixture
def make_part(tmp_path: Path) -> Iterator[MakePart]:
    made: list[Part] = []

    def make(code: str, is_ready: Callable[[], bool] = lambda: False) -> Part:
        command = [sys.executable, "-c", code]
        part = Part("preprocess", command, dict(os.environ), "127.0.0.1:1", tmp_path / "log", is_ready)
        part.start()
        made.append(part)
        return part

    yield make
    for part in made:
        part.stop(0)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def died(part: Part) -> LocalError:
    with pytest.raises(LocalError) as caught:
        wait_for(lambda: part.ready(10))
    return caught.value


def test_a_part_that_ends_is_told_with_its_code_its_last_lines_and_its_log(make_part: MakePart, tmp_path: Path) -> None:
    text = str(died(make_part("print('one'); print('two'); raise SystemExit(3)")))
    assert text.startswith("preprocess ended with exit code 3")
    assert str(tmp_path / "log") in text
    assert text.endswith("  | one\n  | two")


def test_a_part_that_was_killed_is_told_with_the_signal(make_part: MakePart) -> None:
    part = make_part("import time; time.sleep(60)")
    os.kill(part.pid, 9)
    assert "preprocess was ended by SIGKILL" in str(died(part))


def test_a_part_that_does_not_become_ready_in_time_is_told(make_part: MakePart) -> None:
    part = make_part("import time; time.sleep(60)")
    with pytest.raises(LocalError, match="preprocess is not ready after 0 s"):
        part.ready(0)


def test_a_part_that_is_ready_says_so(make_part: MakePart) -> None:
    assert make_part("import time; time.sleep(60)", is_ready=lambda: True).ready(0)


def test_a_part_that_heeds_sigterm_is_not_killed(make_part: MakePart) -> None:
    part = make_part("import time; time.sleep(60)")
    assert part.stop(10)
    assert part.stop(10), "stopping twice does no harm"


def test_a_part_that_ignores_sigterm_is_killed_with_its_children(make_part: MakePart, tmp_path: Path) -> None:
    part = make_part(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    wait_for(lambda: (tmp_path / "log").read_text().endswith("\n"))
    child = psutil.Process(int((tmp_path / "log").read_text()))
    assert not part.stop(0.1)
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_part_runs_only_once(make_part: MakePart) -> None:
    with pytest.raises(LocalError, match="runs already, with process id"):
        make_part("import time; time.sleep(60)").start()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    part = Part("predictor", ["/nowhere/python"], {}, "127.0.0.1:1", tmp_path / "log", lambda: True)
    with pytest.raises(LocalError, match="predictor: cannot start /nowhere/python: No such file"):
        part.start()
