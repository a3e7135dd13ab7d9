"""Options of the command that makes a run."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.readers.sources import SourcePolicy


@dataclass(frozen=True)
class RunOptions:
    """Options of the command: `replace` an output that exists, `restart` a run that had begun."""

    replace: bool = False
    restart: bool = False
    policy: SourcePolicy = SourcePolicy()
