"""A server as a child process: started in a process group of its own, watched, and stopped by its id."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from local.errors import LocalError

SHOWN_LINES = 12


@dataclass
class ServerProcess:
    """One server; `is_ready` asks it once, and answers within a second."""

    name: str
    command: list[str]
    environment: dict[str, str]
    address: str
    log: Path
    is_ready: Callable[[], bool]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _started: float = field(default=0.0, init=False)

    @property
    def pid(self) -> int:
        """The id of the running process. Raises `LocalError` if it was not started."""
        if self._process is None:
            raise LocalError(f"{self.name} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the process; its output is appended to the log."""
        if self._process is not None and self._process.poll() is None:
            raise LocalError(f"{self.name} runs already, with process id {self._process.pid}")
        self._started = time.monotonic()
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)  # logs name models and callers
        with open(descriptor, "ab") as log:
            try:
                self._process = subprocess.Popen(
                    self.command,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise LocalError(f"{self.name}: cannot start {self.command[0]}: {error.strerror}") from error

    def poll_ready(self, timeout_s: float) -> bool:
        """Ask once. Raises `LocalError` if the process has ended, or `timeout_s` after its start."""
        if self.is_ready():
            return True
        self.check()
        if self.uptime_s() > timeout_s:
            raise LocalError(f"{self.name} is not ready after {timeout_s:.0f} s{self._last_lines()}")
        return False

    def uptime_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def check(self) -> None:
        """Raise `LocalError` with the end of the log if the process has ended."""
        if self._process is not None and (code := self._process.poll()) is not None:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise LocalError(f"{self.name} {how}{self._last_lines()}")

    def stop(self, timeout_s: float) -> bool:
        """Send SIGTERM, and SIGKILL to its whole group after `timeout_s`. Returns whether SIGTERM was enough."""
        process, self._process = self._process, None
        if process is None:
            return True
        graceful = True
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                graceful = False
        _kill_group(process.pid)
        process.wait()
        return graceful

    def kill(self) -> None:
        """Send SIGKILL to the one process, like a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _last_lines(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
        except OSError:
            lines = []
        shown = "".join(f"\n  | {line[:300]}" for line in lines)
        return f"; its log is {self.log}" + (f" and ends with{shown}" if shown else "")


def _kill_group(pid: int) -> None:
    """Kill what the process left in its group; it got a session of its own at the start."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
