"""Removal of a secret from the command line of a process, which every user of the machine can read."""

from __future__ import annotations

from pathlib import Path

ARG_START, ARG_END = 45, 46  # fields 48 and 49 of /proc/<pid>/stat, counted from the one after the name


def hide_argument(pid: int, secret: str) -> bool:
    """Overwrite a secret in the arguments of a child process that has read them. Returns whether it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[ARG_START]), int(fields[ARG_END])
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            at = memory.read(end - start).find(secret.encode())
            if at >= 0:
                memory.seek(start + at)
                memory.write(b"*" * len(secret))
        return secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):  # another system than Linux, or one where a process may not touch its children
        return False
