"""Faults of the store as faults of models, versions and documents. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from controller.catalog.entities import Catalog, Reason, ScannedModel
from triptych.contract.verification.tree import VERSION

UNKNOWN = (Reason.UNKNOWN_MODEL, Reason.UNKNOWN_VERSION)
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


def with_store_fault(catalog: Catalog, fault: str) -> Catalog:
    """Add the fault of the store to documents that name an unknown model or version, which may be in the store."""
    if not fault:
        return catalog
    results = {
        place: replace(
            result,
            problems=tuple(
                (reason, f"{text}; the models cannot be read now: {fault}" if reason in UNKNOWN else text)
                for reason, text in result.problems
            ),
        )
        for place, result in catalog.document_results.items()
        if any(reason in UNKNOWN for reason, _ in result.problems)
    }
    return replace(catalog, document_results={**catalog.document_results, **results})


def log_lines(faults: Collection[str]) -> set[str]:
    """At most `MAX_LOGGED` faults, and the number of the others."""
    if len(faults) <= MAX_LOGGED:
        return set(faults)
    return {*sorted(faults)[:MAX_LOGGED], f"{len(faults) - MAX_LOGGED} more objects of the store are left out"}
