"""Objects of a store that the mirror skipped, as faults of the models and versions that they belong to. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from controller.catalog.entities import ScannedModel
from triptych.contract.verification.tree import VERSION

MAX_LOGGED = 100  # objects in the log
MAX_SHOWN = 1000  # objects shown as faults; a bucket may be full of other objects


def with_skipped(folders: Collection[ScannedModel], skipped: Mapping[str, str]) -> list[ScannedModel]:
    """Add the reasons why versions or models are missing. `skipped` has them by the path of the object."""
    if not skipped:
        return list(folders)
    known = {folder.name: folder for folder in folders}
    for path, text in sorted(skipped.items())[:MAX_SHOWN]:
        name, _, rest = path.partition("/")
        number = rest.partition("/")[0] if "/" in rest else ""
        folder = known.get(name) or ScannedModel(name, b"", {}, problem=text)
        if VERSION.fullmatch(number) and int(number) not in folder.versions:
            known[name] = replace(folder, invalid={int(number): text} | dict(folder.invalid))
        elif rest and not folder.versions:
            known[name] = folder
    return [folder for _, folder in sorted(known.items())]


def log_lines(faults: Collection[str]) -> set[str]:
    """At most `MAX_LOGGED` faults, and the number of the others."""
    if len(faults) <= MAX_LOGGED:
        return set(faults)
    return {*sorted(faults)[:MAX_LOGGED], f"{len(faults) - MAX_LOGGED} more objects of the store are left out"}
