"""The validator of a repository: models and families against each other. Pure.

A family and route belong to one model. A model has one family and route in all its versions. All members of a family
have one signature, on which callers rely: preprocess answers for a family by any of its members.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from triptych.contract.schema.contract import Contract


class VersionIdentity(NamedTuple):
    """The part of a contract that other versions and models must agree with."""

    family: str
    route: str
    signature: str

    @classmethod
    def of(cls, contract: Contract) -> VersionIdentity:
        return cls(contract.family, contract.route, contract.signature())


FamilyRoute = tuple[str, str]  # family and route
Fault = tuple[str, int | None]  # model and version, None for the whole model


class ModelIdentities(NamedTuple):
    """The versions of one model.

    `removed` versions are gone from the repository and still in traffic. `held` is the family and route that the model
    is served with; it wins over other models. `preferred` models win over those that were never served.
    """

    name: str
    versions: Mapping[int, VersionIdentity]
    removed: Collection[int] = ()
    held: FamilyRoute | None = None
    preferred: bool = False


@dataclass(frozen=True)
class FamilyCheck:
    """The family and route of each model, the signature of each family, and the faults by model and version."""

    routes: Mapping[str, FamilyRoute] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[Fault, str] = field(default_factory=dict)


def check_families(models: Iterable[ModelIdentities], signatures: Mapping[str, str] | None = None) -> FamilyCheck:
    """Checks all models against each other. `signatures` by family are those in force, which win over new ones."""
    known = [model for model in models if model.versions]
    routes = {model.name: _family_route(model) for model in known}
    faults: dict[Fault, str] = {}
    owners: dict[FamilyRoute, str] = {}
    members: list[ModelIdentities] = []
    for model in sorted(known, key=lambda each: (each.held != routes[each.name], not each.preferred, each.name)):
        route = routes[model.name]
        if (owner := owners.setdefault(route, model.name)) != model.name:
            faults[model.name, None] = f"family '{route[0]}', route '{route[1]}' belongs to model '{owner}'"
        else:
            members.append(model)
        faults.update(_odd_versions(model, route))
    chosen = _signatures(members, faults, signatures or {})
    for model in members:
        faults.update(_odd_signatures(model, faults, chosen))
    return FamilyCheck(routes, {family: signature for family, (signature, _) in chosen.items()}, faults)


def _family_route(model: ModelIdentities) -> FamilyRoute:
    """The family and route that the model had, else those of its first version."""
    if model.held is not None and any(version[:2] == model.held for version in model.versions.values()):
        return model.held
    return model.versions[min(model.versions)][:2]


def _odd_versions(model: ModelIdentities, route: FamilyRoute) -> Iterator[tuple[Fault, str]]:
    for number, version in model.versions.items():
        if version[:2] != route:
            want = f"want family '{route[0]}', route '{route[1]}' as in its other versions"
            yield (model.name, number), f"{want}, got family '{version.family}', route '{version.route}'"


def _signatures(
    members: Iterable[ModelIdentities], faults: Collection[Fault], in_force: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Signature of each family and who has it: the one in force if a version still has it, else the first."""
    found: dict[str, dict[str, Fault]] = {}
    for model in members:
        for number in sorted(model.versions):
            if number not in model.removed and (model.name, number) not in faults:
                version = model.versions[number]
                found.setdefault(version.family, {}).setdefault(version.signature, (model.name, number))
    return {family: _chosen(holders, in_force.get(family, "")) for family, holders in found.items()}


def _chosen(holders: Mapping[str, Fault], in_force: str) -> tuple[str, str]:
    signature = in_force if in_force in holders else next(iter(holders))
    model, version = holders[signature]
    return signature, f"model '{model}' version {version}"


def _odd_signatures(
    model: ModelIdentities, faults: Collection[Fault], chosen: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[Fault, str]]:
    for number, version in model.versions.items():
        if number in model.removed or (model.name, number) in faults:
            continue
        signature, holder = chosen[version.family]
        if version.signature != signature:
            text = f"family '{version.family}' must look alike to callers: here [{version.signature}]"
            yield (model.name, number), f"{text}, in {holder} [{signature}]"
