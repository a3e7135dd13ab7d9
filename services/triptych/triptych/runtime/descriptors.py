"""File descriptors of the process: a connection that finds none left takes those of probes and of other services."""

from __future__ import annotations

import resource

RESERVED = 256  # for the metrics port, REST, calls to other services, and files


def raise_limit() -> None:
    """Raise the limit of this process to the most that it may have. Python starts with 1,024 on many machines."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def connections_within(wanted: int) -> int:
    """So many connections, or as many as the limit of this process has descriptors for."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, max(limit - RESERVED, limit // 2)))
