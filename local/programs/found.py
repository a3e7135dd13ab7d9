"""Programs that are already here: on PATH, or in the development cluster beside the checkout."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from local.environments import ROOT

CLUSTER = ROOT / "tools" / "cluster.sh"


def find_program(name: str) -> Path | None:
    """The path of a program: from PATH, else from the development cluster; None if it is missing."""
    return next(found_programs(name), None)


def found_programs(name: str) -> Iterator[Path]:
    """Every path of a program: that from PATH, then that from the development cluster."""
    for path in (None, _cluster_path()):
        if path != "" and (found := shutil.which(name, path=path)):
            yield Path(found)


@cache
def _cluster_path() -> str:
    """The PATH of the development cluster; empty without one. It is asked once, which takes a start of Python."""
    if subprocess.run([CLUSTER, "exists"], capture_output=True).returncode:
        return ""
    lines = subprocess.run([CLUSTER, "env"], capture_output=True, text=True).stdout
    return subprocess.run(["bash", "-c", f'{lines}\nprintf %s "$PATH"'], capture_output=True, text=True).stdout
