"""What is served: models, their valid versions, and the traffic of each. Pure.

A fault takes as little as possible out of traffic: one version, else one model, never the others. A document
that is refused leaves the model's last good traffic in force; a version that is in traffic stays served when
its files are taken away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from controller.catalog.entities import Catalog, Folder, Model, Reason, Verdict, Version
from controller.catalog.seal import refusal, same_kind
from controller.catalog.served_model import Document, Fault, Origin, Residency, Traffic
from triptych.contract.reading.files import printable
from triptych.contract.verification.tree import CONTRACT

__all__ = ["Catalog", "Folder", "Model", "Reason", "Verdict", "Version", "assemble"]

_GRAVITY = {reason: number for number, reason in enumerate(Reason)}

Serving = Callable[[str], Collection[int]]


def assemble(
    folders: Collection[Folder],
    documents: Collection[Document | Fault],
    previous: Catalog,
    *,
    serve_undeclared: bool,
    serving: Serving = lambda model: (),
) -> Catalog:
    """The catalog of these folders and documents; `previous` says who was first, and what was good.

    `serving` are the versions of a model that have traffic at this moment, perhaps others than were asked for.
    """
    return _Assembly(previous, serve_undeclared, serving).build(folders, documents)


@dataclass(frozen=True)
class _Claim:
    """What one document says about a model; `document` is None when it cannot be read."""

    origin: Origin
    model: str
    document: Document | None


_UNDECLARED = Origin("")


@dataclass(frozen=True)
class _Member:
    """A folder with the family and route that its versions agree on."""

    folder: Folder
    family: str
    route: str
    versions: Mapping[int, Version]


class _Assembly:
    def __init__(self, previous: Catalog, serve_undeclared: bool, serving: Serving) -> None:
        self._previous, self._serve_undeclared, self._serving = previous, serve_undeclared, serving
        self._broken: dict[tuple[str, int | None], str] = {}
        self._notes: list[str] = []
        self._problems: defaultdict[str, list[tuple[Reason, str]]] = defaultdict(list)

    def build(self, folders: Collection[Folder], documents: Collection[Document | Fault]) -> Catalog:
        claims = self._claims(documents)
        holders = self._holders(claims)
        members = self._members([self._as_sealed(folder, holders.get(folder.name)) for folder in folders])
        served = {
            m.folder.name: self._served(m, holders.get(m.folder.name)) for m in self._with_route(members, holders)
        }
        models = {name: model for name, model in served.items() if model is not None}
        self._judge_models(holders, {folder.name for folder in folders})
        return Catalog(models, self._broken, tuple(self._notes), {c.origin.where: self._verdict(c) for c in claims})

    def _claims(self, documents: Collection[Document | Fault]) -> list[_Claim]:
        """One claim for each document; the faults of one document are one claim."""
        claims: dict[str, _Claim] = {}
        names: dict[tuple[str, str], Origin] = {}
        for item in documents:
            where = item.origin.where
            if isinstance(item, Fault):
                self._notes.append(item.text)
                self._problems[where].append((Reason.INVALID, item.text.removeprefix(f"{where}: ")))
                claims[where] = _Claim(item.origin, item.model, None)
                continue
            metadata = item.served.metadata
            first = names.setdefault((metadata.namespace, metadata.name), item.origin)
            document = item if first is item.origin else None
            if document is None:
                text = f"a second document for name '{metadata.name}'; {first.where} is one"
                self._problem(item.origin, Reason.INVALID, text)
            claims[where] = _Claim(item.origin, item.served.spec.model, document)
        return list(claims.values())

    def _holders(self, claims: Iterable[_Claim]) -> dict[str, _Claim]:
        """One claim for each model: the one that had it, else the oldest."""
        holders: dict[str, _Claim] = {}
        for claim in sorted(claims, key=self._seniority):
            holder = holders.setdefault(claim.model, claim) if claim.model else claim
            if holder is not claim:
                text = f"a second document for model '{printable(claim.model)}'; {holder.origin.where} is one"
                self._problem(claim.origin, Reason.ROUTE_TAKEN, text)
        return holders

    def _seniority(self, claim: _Claim) -> tuple[bool, bool, str]:
        had = self._previous.models.get(claim.model)
        return had is None or had.document != claim.origin.where, not claim.origin.traffic, claim.origin.created

    def _as_sealed(self, folder: Folder, claim: _Claim | None) -> Folder:
        """Without the versions that were something else before a restart, as their document's status says."""
        versions, broken = dict(folder.versions), dict(folder.broken)
        for number, sealed in (claim.origin.sealed if claim else {}).items():
            version = versions.get(number)
            if version is None:
                continue
            if sealed.contract and version.stated and sealed.contract != version.stated:
                broken[number] = refusal(number, f"{CONTRACT} changed before this process started")
                del versions[number]
            elif version.seal and same_kind(sealed.files, version.seal) and sealed.files != version.seal:
                broken[number] = refusal(number, "its files changed before this process started")
                versions[number] = replace(version, removed=True, fault=broken[number], files=None)
        return replace(folder, versions=versions, broken=broken) if len(broken) > len(folder.broken) else folder

    def _members(self, folders: Collection[Folder]) -> list[_Member]:
        """Folders with at least one version; versions of another family or route are broken."""
        members = []
        for folder in folders:
            self._notes += folder.notes
            self._broken.update({(folder.name, number): text for number, text in folder.broken.items()})
            if not folder.versions:
                self._broken[folder.name, None] = folder.problem or "no valid version"
                continue
            family, route = self._identity(folder)
            versions = {}
            for number, version in sorted(folder.versions.items()):
                got = (version.contract.family, version.contract.route)
                if got == (family, route):
                    versions[number] = version
                else:
                    text = f"want family '{family}', route '{route}' as in its other versions, got {got}"
                    self._broken[folder.name, number] = text
            members.append(_Member(folder, family, route, versions))
        return members

    def _identity(self, folder: Folder) -> tuple[str, str]:
        """Family and route of a model: those it had, else those of its first version."""
        claims = [(v.contract.family, v.contract.route) for _, v in sorted(folder.versions.items())]
        known = self._previous.models.get(folder.name)
        if known and (known.family, known.route) in claims:
            return known.family, known.route
        return claims[0]

    def _with_route(self, members: list[_Member], claims: Mapping[str, _Claim]) -> list[_Member]:
        """One model for each family and route: the one that had them, else the first by name."""
        holders: dict[tuple[str, str], str] = {}

        def rank(member: _Member) -> tuple[bool, bool, str]:
            claim = claims.get(member.folder.name)
            return not self._held(member), not (claim and claim.origin.traffic), member.folder.name

        ordered = sorted(members, key=rank)
        for member in ordered:
            name, route = member.folder.name, (member.family, member.route)
            if (holder := holders.setdefault(route, name)) != name:
                text = f"family '{member.family}', route '{member.route}' belongs to model '{holder}'"
                self._broken[name, None] = text
                if name in claims:
                    self._problem(claims[name].origin, Reason.ROUTE_TAKEN, text)
        return [m for m in ordered if holders[m.family, m.route] == m.folder.name]

    def _held(self, member: _Member) -> bool:
        known = self._previous.models.get(member.folder.name)
        return known is not None and (known.family, known.route) == (member.family, member.route)

    def _judge_models(self, holders: Mapping[str, _Claim], known: set[str]) -> None:
        """Documents of models that are not there, or have nothing to serve."""
        for name, claim in holders.items():
            if name not in known:
                text = f"spec.model: the model repository has no '{printable(name)}'"
                self._problem(claim.origin, Reason.UNKNOWN_MODEL, text)
            elif (name, None) in self._broken and not self._problems[claim.origin.where]:
                self._problems[claim.origin.where].append((Reason.CONTRACT_INVALID, self._broken[name, None]))

    def _problem(self, origin: Origin, reason: Reason, text: str) -> None:
        self._problems[origin.where].append((reason, text))
        self._notes.append(f"{origin.where}: {text}")

    def _verdict(self, claim: _Claim) -> Verdict:
        asked = claim.document.served.spec.shares if claim.document else {}
        problems = sorted(self._problems.get(claim.origin.where, ()), key=lambda problem: _GRAVITY[problem[0]])
        return Verdict(claim.origin, claim.model, asked, tuple(problems))

    def _served(self, member: _Member, claim: _Claim | None) -> Model | None:
        """The model with its traffic, or None when it is kept out."""
        if claim is None:
            return self._undeclared(member)
        if claim.document is not None:
            return self._declared(member, claim, claim.document)
        if last := self._last_good(member, claim):
            return last
        self._broken[member.folder.name, None] = "its ServedModel document is refused"
        return None

    def _undeclared(self, member: _Member) -> Model | None:
        """By its highest version, as long as its folder is there."""
        name = member.folder.name
        if not self._serve_undeclared:
            self._broken[name, None] = "no ServedModel document"
        elif last := self._despite_faults(member):
            return self._model(member, last, Residency())
        elif present := [number for number, version in member.versions.items() if not version.removed]:
            return self._model(member, {max(present): 100}, Residency())
        elif not member.folder.removed:
            self._broken[name, None] = member.folder.problem or "no valid version"
        return None

    def _despite_faults(self, member: _Member) -> Mapping[int, int]:
        """The traffic as it was if it goes to a version that has a fault now; what is loaded is served on."""
        known = self._previous.models.get(member.folder.name)
        traffic = known.traffic if known and not known.document else {}
        versions = [member.versions.get(number) for number in traffic]
        return traffic if any(version is not None and version.fault for version in versions) else {}

    def _declared(self, member: _Member, claim: _Claim, document: Document) -> Model | None:
        """By one good document, if its versions are there."""
        name, spec = member.folder.name, document.served.spec
        missing = [share.version for share in spec.traffic if not self._usable(member, share.version, claim)]
        if not missing:
            self._note_removed(member, claim, spec.shares)
            return self._model(member, spec.shares, spec.residency, claim)
        for number in sorted(missing):
            self._problem(claim.origin, *self._why_not(member, number))
        if last := self._last_good(member, claim):
            return last
        usable = {number: version for number, version in member.versions.items() if not version.removed}
        if left := _what_is_left(spec.traffic, usable):
            return self._model(member, left, spec.residency, claim)
        self._broken[name, None] = "no version in its traffic is valid"
        return None

    def _usable(self, member: _Member, number: int, claim: _Claim) -> bool:
        """Whether a version may have traffic: it is there, or it was in traffic when it was removed."""
        version = member.versions.get(number)
        known = self._previous.models.get(member.folder.name)
        traffic = known.traffic if known else claim.origin.traffic
        return version is not None and (not version.removed or number in traffic)

    def _why_not(self, member: _Member, number: int) -> tuple[Reason, str]:
        name = member.folder.name
        version = member.versions.get(number)
        if version is not None and version.fault:
            return Reason.VERSION_CHANGED, f"spec.traffic: {version.fault}"
        if text := self._broken.get((name, number), ""):
            return Reason.CONTRACT_INVALID, f"spec.traffic: version {number} is not valid: {text}"
        known = ", ".join(str(n) for n, version in sorted(member.versions.items()) if not version.removed) or "none"
        text = f"spec.traffic: model '{name}' has no valid version {number}; it has {known}"
        return (Reason.VERSION_REMOVED if number in member.versions else Reason.UNKNOWN_VERSION), text

    def _note_removed(self, member: _Member, claim: _Claim, traffic: Mapping[int, int]) -> None:
        """What is in traffic and gone from the disk is still served, and somebody has to know."""
        for number in sorted(traffic):
            version = member.versions[number]
            if version.fault:
                self._problem(claim.origin, Reason.VERSION_CHANGED, version.fault)
            elif version.removed:
                why = self._broken.get((member.folder.name, number), "its files were removed")
                text = f"version {number} is served as long as a Triton has it loaded, but {why}"
                self._problem(claim.origin, Reason.VERSION_REMOVED, f"{text}; put it back, or take it out of traffic")

    def _last_good(self, member: _Member, claim: _Claim) -> Model | None:
        """The model with the traffic it had, as long as those versions are there."""
        known = self._previous.models.get(member.folder.name)
        traffic = known.traffic if known else claim.origin.traffic
        if not traffic or not all(self._usable(member, number, claim) for number in traffic):
            return None
        self._note_removed(member, claim, traffic)
        residency = (
            known.residency if known else claim.document.served.spec.residency if claim.document else Residency()
        )
        return self._model(member, traffic, residency, claim)

    def _model(
        self, member: _Member, traffic: Mapping[int, int], residency: Residency, claim: _Claim | None = None
    ) -> Model:
        """A removed version is only there while it is in traffic, asked for or in fact, or has a fault."""
        name, config = member.folder.name, member.folder.config
        kept = {*traffic, *self._serving(name)}
        versions = {n: each for n, each in member.versions.items() if not each.removed or each.fault or n in kept}
        origin = claim.origin if claim else _UNDECLARED
        return Model(
            name, member.family, member.route, config, versions, traffic, residency, origin.where, origin.traffic
        )


def _what_is_left(traffic: tuple[Traffic, ...], versions: Mapping[int, Version]) -> dict[int, int]:
    """The shares of the versions that exist, the largest with those of the others; empty if none is left."""
    left = {share.version: share.percent for share in traffic if share.version in versions}
    if not any(left.values()):
        return {}
    largest = max(left, key=lambda version: (left[version], version))
    left[largest] += 100 - sum(left.values())
    return left
