"""The signature of each family, kept from one build of the catalog to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from triptych.contract.verification.families import (
    ChosenSignature,
    ModelIdentities,
    RouteCheck,
    SignatureClaim,
    choose_signature,
    signature_claims,
)

Claims = tuple[tuple[str, str, SignatureClaim], ...]  # family, signature and claim: the first of each signature


class FamilySignatures:
    """The chosen signature of each family; chosen again if the claims of a member changed."""

    def __init__(self, in_force: Mapping[str, str]) -> None:
        """`in_force` are the signatures of the last catalog, which win over new ones."""
        self._in_force, self._changed = in_force, True
        self._by_model: dict[str, Claims] = {}
        self._by_family: defaultdict[str, defaultdict[str, dict[str, SignatureClaim]]]
        self._by_family = defaultdict(lambda: defaultdict(dict))  # claims by family, signature and model
        self.chosen: dict[str, ChosenSignature] = {}

    def in_force(self) -> Mapping[str, str]:
        """The signature of each family, from now on in force."""
        if self._changed:
            self._in_force = {family: signature for family, (signature, _) in self.chosen.items()}
            self._changed = False
        return self._in_force

    def update(self, names: Iterable[str], check: RouteCheck) -> set[str]:
        """Replace the claims of these models by those of `check`; return the models whose faults may change thereby."""
        new = {model.name: _first_claims(model, check) for model in check.owners}
        touched = {family for name in names for family in self._replace(name, new.get(name, ()))}
        return {name for family in touched for name in self._choose(family)}

    def _replace(self, name: str, after: Claims) -> set[str]:
        """Replace the claims of one model; return the families in which they differ."""
        before = self._by_model.get(name, ())
        if before == after:
            return set()
        for family, signature, _ in before:
            del self._by_family[family][signature][name]
        for family, signature, claim in after:
            self._by_family[family][signature][name] = claim
        self._by_model[name] = after
        if not after:
            del self._by_model[name]
        return {family for family, _, _ in (*before, *after)}

    def _choose(self, family: str) -> set[str]:
        """Choose the signature of a family again; return the models whose faults may change.

        Another holder is named in the faults of other signatures, another signature concerns all.
        """
        claims = self._by_family[family]
        holders = {signature: min(found.values()) for signature, found in claims.items() if found}
        before, now = self.chosen.pop(family, None), None
        if holders:
            now = self.chosen[family] = choose_signature(holders, self._in_force.get(family, ""))
        else:
            del self._by_family[family]
        if now == before:
            return set()
        self._changed = True
        kept = now[0] if before and now and before[0] == now[0] else None
        return {name for signature, found in claims.items() if signature != kept for name in found}


def _first_claims(model: ModelIdentities, check: RouteCheck) -> Claims:
    first: dict[tuple[str, str], SignatureClaim] = {}
    for family, signature, claim in signature_claims(model, check):
        first[family, signature] = min(claim, first.get((family, signature), claim))
    return tuple((family, signature, claim) for (family, signature), claim in first.items())
