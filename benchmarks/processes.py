"""What a process and its children take of memory and CPU."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

MIB = 1 << 20


def uss_mib(pid: int) -> float:
    """MiB that a process and its children have for themselves (USS): what would be free without them."""
    return float(sum(process.memory_full_info().uss for process in _alive(pid))) / MIB


def own_mib(pid: int) -> float:
    """MiB of a process and its children without pages of files: what a second such process on the node would add.

    Unlike USS it does not depend on whether another process has the same libraries open at this moment.
    """
    return sum(_own_kib(process.pid) for process in _alive(pid)) / 1024


def cpu_s(pid: int) -> float:
    """CPU seconds that a process, without its children, has used since its start."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def free_port(host: str = "127.0.0.1") -> int:
    """Of nobody at this moment."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port


def _own_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def _alive(pid: int) -> Iterator[psutil.Process]:
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            if each.status() != psutil.STATUS_ZOMBIE:
                yield each
