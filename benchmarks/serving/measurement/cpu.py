"""CPU seconds of every process of a system, and of the whole machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
STUB = "triton_python_backend_stub"

# Seconds by part of a system.
Seconds = dict[str, float]


def of_parts(pids: Mapping[str, int]) -> Seconds:
    """CPU seconds of each part with its living children. Python models of Triton count under their own names."""
    seconds: Seconds = {}
    for part, pid in pids.items():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = each.cpu_times()
                    name = part if each.pid == pid else kind_of(part, each.cmdline())
                    seconds[name] = seconds.get(name, 0.0) + times.user + times.system
    return seconds


def kind_of(part: str, command: Sequence[str]) -> str:
    """Name under which a child process counts: its own for a Python model of Triton, else that of its parent."""
    program = Path(command[0]).name if command else ""
    if program == STUB and len(command) > 1:
        model = Path(command[1]).parent.parent.name
        return next((f"{part}: {side}" for side in ("before", "after") if model.endswith(f"_{side}")), f"{part}: model")
    return part


def of_machine() -> float:
    """CPU seconds of all processes since the machine started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, _steal = fields
    return (user + nice + system + irq + softirq) * TICK_S


def difference(before: Seconds, after: Seconds) -> Seconds:
    """CPU seconds between two readings; a process that has ended counts as 0."""
    return {name: max(0.0, seconds - before.get(name, 0.0)) for name, seconds in after.items()}
