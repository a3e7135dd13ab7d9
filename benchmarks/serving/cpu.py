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
    """What each part has used, with its living children; those of another kind have a name of theirs."""
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
    """Under which name a child counts: Triton's Python models have one, all others are their parent's."""
    program = Path(command[0]).name if command else ""
    if program == STUB and len(command) > 1:
        model = Path(command[1]).parent.parent.name
        return next((f"{part}: {side}" for side in ("before", "after") if model.endswith(f"_{side}")), f"{part}: model")
    return part


def of_machine() -> float:
    """What all processes of this machine have used since it started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, _steal = fields
    return (user + nice + system + irq + softirq) * TICK_S


def difference(before: Seconds, after: Seconds) -> Seconds:
    """What was used between two looks; a process that is gone used nothing."""
    return {name: max(0.0, seconds - before.get(name, 0.0)) for name, seconds in after.items()}
