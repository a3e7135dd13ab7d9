"""The validator of a repository: models and families against each other. Pure.

A family and route belong to one model. A model has one family and route in all its versions. All members of a family
have one signature, on which callers rely: preprocess answers for a family by any of its members. Optional inputs are
no part of it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
        """The identity; family and signature are interned, since all members of a family share them."""
        return cls(sys.intern(contract.family), contract.route, sys.intern(contract.signature()))


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


class RouteCheck(NamedTuple):
    """Family and route of each model, the models that own theirs by seniority, and the faults."""

    routes: Mapping[str, FamilyRoute]
    owners: Sequence[ModelIdentities]
    faults: Mapping[Fault, str]


class SignatureClaim(NamedTuple):
    """A version that has a signature. The least claim of a family comes first."""

    not_held: bool
    not_preferred: bool
    model: str
    version: int


ChosenSignature = tuple[str, SignatureClaim]  # signature of a family, and its holder


def check_families(models: Iterable[ModelIdentities], signatures: Mapping[str, str] | None = None) -> FamilyCheck:
    """Check all models against each other. `signatures` by family are those in force, which win over new ones."""
    check, in_force = check_routes(models), signatures or {}
    holders: defaultdict[str, dict[str, SignatureClaim]] = defaultdict(dict)
    for model in check.owners:
        for family, signature, claim in signature_claims(model, check):
            holders[family][signature] = min(claim, holders[family].get(signature, claim))
    chosen = {family: choose_signature(found, in_force.get(family, "")) for family, found in holders.items()}
    winners = {family: signature for family, (signature, _) in chosen.items()}
    return FamilyCheck(check.routes, winners, check_signatures(check, chosen))


def check_routes(models: Iterable[ModelIdentities]) -> RouteCheck:
    """Check that versions agree with their model, and that each family and route has one model."""
    known = [model for model in models if model.versions]
    routes = {model.name: _family_route(model) for model in known}
    faults: dict[Fault, str] = {}
    first: dict[FamilyRoute, str] = {}
    owners: list[ModelIdentities] = []
    for model in sorted(known, key=lambda each: _seniority(each, routes[each.name])):
        route = routes[model.name]
        if (owner := first.setdefault(route, model.name)) != model.name:
            faults[model.name, None] = f"family '{route[0]}', route '{route[1]}' belongs to model '{owner}'"
        else:
            owners.append(model)
        faults.update(_odd_versions(model, route))
    return RouteCheck(routes, owners, faults)


def signature_claims(model: ModelIdentities, check: RouteCheck) -> Iterator[tuple[str, str, SignatureClaim]]:
    """Family, signature and claim of each version that exists and agrees with its model."""
    seniority = _seniority(model, check.routes[model.name])
    for number, version in model.versions.items():
        if number not in model.removed and (model.name, number) not in check.faults:
            yield version.family, version.signature, SignatureClaim(*seniority, number)


def choose_signature(holders: Mapping[str, SignatureClaim], in_force: str) -> ChosenSignature:
    """The signature in force if a version still has it, else that of the first claim."""
    signature = in_force if in_force in holders else min(holders, key=lambda each: holders[each])
    return signature, holders[signature]


def check_signatures(check: RouteCheck, chosen: Mapping[str, ChosenSignature]) -> dict[Fault, str]:
    """All faults: those of `check`, and of versions whose signature is not that of their family."""
    faults = dict(check.faults)
    for model in check.owners:
        faults.update(_odd_signatures(model, check.faults, chosen))
    return faults


def _seniority(model: ModelIdentities, route: FamilyRoute) -> tuple[bool, bool, str]:
    return model.held != route, not model.preferred, model.name


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


def _odd_signatures(
    model: ModelIdentities, faults: Collection[Fault], chosen: Mapping[str, ChosenSignature]
) -> Iterator[tuple[Fault, str]]:
    for number, version in model.versions.items():
        if number in model.removed or (model.name, number) in faults:
            continue
        signature, holder = chosen[version.family]
        if version.signature != signature:
            text = f"family '{version.family}' must look alike to callers: here [{version.signature}]"
            yield (model.name, number), f"{text}, in model '{holder.model}' version {holder.version} [{signature}]"
