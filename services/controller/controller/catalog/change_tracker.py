"""Changes between two listings of a folder: the entries to read again, once they have settled. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping

from controller.catalog.fingerprints import Fingerprint


class ChangeTracker:
    """Fingerprints of the entries of one folder: as last read, and as last listed."""

    def __init__(self) -> None:
        self._listed: Mapping[str, Fingerprint] = {}
        self._read: dict[str, Fingerprint | None] = {}  # None: to be read again

    def update(self, listed: Mapping[str, Fingerprint], settle: bool) -> tuple[list[str], list[str]]:
        """Names to read, and names that are gone. With `settle` an entry is read after two equal listings."""
        changed = [
            name
            for name, fingerprint in listed.items()
            if fingerprint != self._read.get(name) and (not settle or fingerprint == self._listed.get(name))
        ]
        gone = [name for name in self._read if name not in listed]
        for name in gone:
            del self._read[name]
        self._read.update({name: listed[name] for name in changed})
        self._listed = listed
        return changed, gone

    def forget(self, name: str) -> None:
        """Has an entry read again once it has settled."""
        self._read[name] = None


def is_young(fingerprint: Fingerprint, young_s: float) -> bool:
    """Whether a file was written within the last `young_s` seconds."""
    return young_s > 0 and fingerprint.newest_s > time.time() - young_s
