"""Utilisation and memory of the GPU by `nvidia-smi`; None without it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from statistics import mean

QUERY = "--format=csv,noheader,nounits"
EVERY_MS = 200
MIB = 1 << 20


class Watch:
    """Utilisation during a block: `percent` of the time in which a kernel ran, None without `nvidia-smi`."""

    def __init__(self) -> None:
        self.percent: float | None = None

    def __enter__(self) -> Watch:
        self._said = tempfile.TemporaryFile("w+")
        self._program: subprocess.Popen[str] | None = None
        if program := shutil.which("nvidia-smi"):
            words = [program, "--query-gpu=utilization.gpu", QUERY, f"--loop-ms={EVERY_MS}"]
            self._program = subprocess.Popen(words, stdout=self._said, stderr=subprocess.DEVNULL, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._program is not None:
            self._program.terminate()
            self._program.wait()
            self._said.seek(0)
            self.percent = percent(self._said.read())
        self._said.close()


def percent(said: str) -> float | None:
    """Mean of the complete lines that are numbers; the last line may be cut off."""
    lines = said.splitlines(keepends=True)
    found = [int(line) for line in lines if line.endswith("\n") and line.strip().isdecimal()]
    return mean(found) if found else None


def used_mib() -> float | None:
    """Used memory of all GPUs in MiB, None without `nvidia-smi`."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    done = subprocess.run([program, "--query-gpu=memory.used", QUERY], capture_output=True, text=True, timeout=20)
    found = [int(line) for line in done.stdout.split() if line.isdecimal()]
    return float(sum(found)) if found else None
