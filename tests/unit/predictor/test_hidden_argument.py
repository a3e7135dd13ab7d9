"""An argument that the process list never shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.environments import ROOT

PROGRAM = """
import json, os, sys
json.dump(sys.argv[1:], sys.stdout)
"""
STARTER = f"""
import os, sys
from predictor import hidden_argument
if "FORBIDDEN" in os.environ:
    hidden_argument._start_tracer = lambda hidden: False
line = [sys.executable, "-c", {PROGRAM!r}, "first", "--key=" + os.environ.pop("GIVEN"), "last"]
hidden_argument.execute(line, 4, dict(os.environ))
"""


def run(**variables: str) -> tuple[list[str], list[bytes]]:
    """The arguments that the program got, and what the process list showed at any time of it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "services/predictor"), "GIVEN": "secret", **variables}
    shown = list[bytes]()
    with subprocess.Popen([sys.executable, "-c", STARTER], env=environment, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            shown.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
        assert process.stdout is not None
        return json.load(process.stdout), shown


def test_a_program_gets_its_argument_and_the_process_list_never_shows_it() -> None:
    got, shown = run()
    assert got == ["first", "--key=secret", "last"]
    assert any(b"--key=hidden" in line for line in shown), "this machine forbids tracing"
    assert not any(b"=secret" in line for line in shown)


def test_where_tracing_is_forbidden_the_program_gets_its_argument_too() -> None:
    assert run(FORBIDDEN="1")[0] == ["first", "--key=secret", "last"]


@pytest.mark.parametrize("signalled", ["SIGUSR1", "SIGCHLD"])
def test_a_signal_before_the_start_of_the_program_changes_nothing(signalled: str) -> None:
    early = f"import os, signal; signal.signal(signal.{signalled}, signal.SIG_IGN)\n"
    sender = f"{early}import threading\n" + STARTER.replace(
        "hidden_argument.execute(", f"os.kill(os.getpid(), signal.{signalled})\nhidden_argument.execute("
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "services/predictor"), "GIVEN": "secret"}
    done = subprocess.run([sys.executable, "-c", sender], env=environment, capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout) == ["first", "--key=secret", "last"]
