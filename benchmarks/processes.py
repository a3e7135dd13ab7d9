"""Memory and CPU of a process and its children."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

MIB = 1 << 20


def uss_mib(pid: int) -> float:
    """Unique set size in MiB of a process and its children: memory that would be free without them."""
    return float(sum(process.memory_full_info().uss for process in _alive(pid))) / MIB


def own_mib(pid: int) -> float:
    """Anonymous memory in MiB of a process and its children: growth of the node by a second such process.

    Unlike USS it does not depend on whether another process maps the same libraries.
    """
    return sum(_own_kib(process.pid) for process in _alive(pid)) / 1024


def cpu_s(pid: int) -> float:
    """CPU seconds of a process since its start, without its children."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that is free at this moment."""
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
