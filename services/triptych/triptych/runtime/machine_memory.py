"""The memory of this machine or container, and whether an address is on this machine."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from triptych.runtime.addresses import split

# Memory limits of a container's cgroup: version 2, and version 1.
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
MEMINFO = Path("/proc/meminfo")


def machine_bytes(limits: tuple[Path, ...] = CGROUP_LIMITS, meminfo: Path = MEMINFO) -> int:
    """The least of the machine's memory and the cgroup's limit; 0 where neither can be read."""
    found = [_number(path.read_text()) for path in limits if path.is_file()]
    if meminfo.is_file():
        found.append(1024 * _number(meminfo.read_text().partition("MemTotal:")[2].partition("kB")[0]))
    return min((number for number in found if number), default=0)


def is_here(address: str) -> bool:
    """Whether host:port is a port of this machine's loopback."""
    host, _ = split(address)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _number(text: str) -> int:
    """0 for `max`, which is no limit."""
    return int(text) if text.strip().isdecimal() else 0
