"""The script that starts the process of a model, with a fake process instead of Triton's stub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.environments import ROOT

NAME = "triton_python_backend_stub"
SCRIPT = ROOT / "services/predictor/backends/python" / NAME
DIES = "exit 9"
SPEAKS = f"exec {sys.executable} -c 'import threading, time; threading.Thread(target=time.sleep, args=[0.6]).start()'"


@pytest.fixture
def region() -> Iterator[Path]:
    file = Path("/dev/shm", f"triptych-test-{os.getpid()}")
    file.write_bytes(b"tensors")
    file.chmod(0o666)
    yield file
    file.unlink(missing_ok=True)


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    """The folder of the Python backend, with a script that does not wait before it looks again."""
    (tmp_path / "stub").mkdir()
    shutil.copy(SCRIPT, tmp_path)
    script = tmp_path / NAME
    script.write_text(script.read_text().replace("DELAY_S=3", "DELAY_S=0.1"))
    return tmp_path


def run(backend: Path, region: Path, stub: str) -> int:
    """The exit status of the script; `stub` is what its process does after it was counted."""
    file = backend / "stub" / NAME
    file.write_text(f'#!/bin/sh\necho "$*" >> {backend}/starts\n{stub}\n')
    file.chmod(0o700)
    arguments = ["model.py", region.name, "1", "2", str(os.getpid()), "lib", "336", "name_0_0", "backend"]
    output = subprocess.DEVNULL  # a pipe would stay open until the last process has ended
    return subprocess.run([backend / NAME, *arguments], stdout=output, stderr=output, timeout=20).returncode


def starts(backend: Path) -> list[str]:
    return (backend / "starts").read_text().splitlines()


def test_a_process_that_dies_before_its_first_message_is_replaced_three_times(backend: Path, region: Path) -> None:
    assert run(backend, region, DIES) == 9
    until = time.monotonic() + 20
    while len(starts(backend)) < 4:
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.5)
    assert starts(backend) == [f"model.py {region.name} 1 2 {os.getpid()} lib 336 name_0_0 backend"] * 4


@pytest.mark.parametrize("stub", [DIES, SPEAKS], ids=["its load has failed", "it has sent its first message"])
def test_a_process_is_not_replaced_if_triton_does_not_wait_for_it(backend: Path, region: Path, stub: str) -> None:
    if stub == DIES:
        region.unlink()  # as Triton does when a load has failed
    run(backend, region, stub)
    time.sleep(0.5)
    assert len(starts(backend)) == 1


def test_the_shared_memory_of_a_model_is_closed_to_other_users_before_its_process_starts(
    backend: Path, region: Path
) -> None:
    run(backend, region, f'stat -c %a "/dev/shm/$2" > {backend}/mode; {SPEAKS}')
    assert (backend / "mode").read_text() == "600\n"


def test_without_arguments_the_script_answers_as_the_stub_does(backend: Path) -> None:
    """Triton starts it so first; after any other status it sets the mode of the file."""
    assert subprocess.run([backend / NAME]).returncode == 1
