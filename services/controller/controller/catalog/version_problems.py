"""Problems of a document with the versions that it names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from controller.catalog.entities import Model, Problem, Reason, Version
from triptych.contract.verification.families import Fault


def version_problem(
    model: str, number: int, versions: Mapping[int, Version], invalid: Mapping[Fault, str], field: str
) -> Problem:
    """The reason why a version cannot be had, for the field of the document that names it."""
    version = versions.get(number)
    if version is not None and version.fault:
        return Reason.VERSION_CHANGED, f"{field}: {version.fault}"
    if text := invalid.get((model, number), ""):
        return Reason.CONTRACT_INVALID, f"{field}: version {number} is not valid: {text}"
    known = ", ".join(str(n) for n, version in sorted(versions.items()) if not version.removed) or "none"
    text = f"{field}: model '{model}' has no valid version {number}; it has {known}"
    return (Reason.VERSION_REMOVED if number in versions else Reason.UNKNOWN_VERSION), text


def removed_problems(
    model: str, traffic: Iterable[int], versions: Mapping[int, Version], invalid: Mapping[Fault, str]
) -> Iterator[Problem]:
    """Problems of versions that are in traffic and no longer on disk."""
    for number in sorted(traffic):
        version = versions[number]
        if version.fault:
            yield Reason.VERSION_CHANGED, version.fault
        elif version.removed:
            why = invalid.get((model, number), "its files were removed")
            text = f"version {number} is served as long as a predictor has it loaded, but {why}"
            yield Reason.VERSION_REMOVED, f"{text}; put it back, or take it out of traffic"


def alias_problems(model: Model, versions: Mapping[int, Version], invalid: Mapping[Fault, str]) -> Iterator[Problem]:
    """Problems of aliases. A removed version that still has traffic is a problem of the traffic."""
    for alias, number in model.aliases.items():
        version = model.versions.get(number)
        if version is None or (version.removed and number not in model.traffic):
            yield version_problem(model.name, number, versions, invalid, f"spec.aliases: {alias}")
