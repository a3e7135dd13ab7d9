"""What is served: models, their valid versions, and the traffic of each. Pure.

A fault takes as little as possible out of traffic: one version, else one model, never the others. A document
that is refused leaves the model's last good traffic in force.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tritonclient.grpc import model_config_pb2 as mc

from repository.served_model import Document, Fault, Residency, Traffic
from triptych.contract import Contract
from triptych.errors import UnknownModel, UnknownVersion


@dataclass(frozen=True)
class Version:
    """One published version. `canonical` is the contract as JSON, `digest` its sha256 in hex."""

    number: int
    contract: Contract
    canonical: bytes
    digest: str


@dataclass(frozen=True)
class Folder:
    """One folder of the model repository as it was read: its valid versions, and the faults of the others.

    `problem` says why there is none at all.
    """

    name: str
    config: mc.ModelConfig
    versions: Mapping[int, Version]
    broken: Mapping[int, str] = field(default_factory=dict)
    problem: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """One model that is served. `traffic` is percent by version, 100 in all; other versions have none."""

    name: str
    family: str
    route: str
    config: mc.ModelConfig
    versions: Mapping[int, Version]
    traffic: Mapping[int, int]
    residency: Residency = Residency()

    @property
    def in_traffic(self) -> frozenset[int]:
        return frozenset(version for version, percent in self.traffic.items() if percent)


@dataclass(frozen=True)
class Catalogue:
    """Everything that is served, and why the rest is not.

    `broken` is keyed by model and version, or by model and None when the whole model is kept out.
    """

    models: Mapping[str, Model] = field(default_factory=dict)
    broken: Mapping[tuple[str, int | None], str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def model(self, name: str) -> Model:
        """Raises `UnknownModel`."""
        model = self.models.get(name)
        if model is None:
            raise UnknownModel(name, self.models)
        return model

    def version(self, name: str, number: int) -> Version:
        """Raises `UnknownModel` or `UnknownVersion`."""
        model = self.model(name)
        version = model.versions.get(number)
        if version is None:
            raise UnknownVersion(name, str(number), map(str, model.versions))
        return version

    def faults(self) -> set[str]:
        """All that is wrong, one sentence each."""
        named = {f"{name}{f' version {v}' if v else ''}: {text}" for (name, v), text in self.broken.items()}
        return named | set(self.notes)


def assemble(
    folders: Collection[Folder],
    documents: Collection[Document | Fault],
    previous: Catalogue,
    *,
    serve_undeclared: bool,
) -> Catalogue:
    """The catalogue of these folders and documents; `previous` says who was first, and what was good."""
    return _Assembly(previous, serve_undeclared).build(folders, documents)


@dataclass(frozen=True)
class _Member:
    """A folder with the family and route that its versions agree on."""

    folder: Folder
    family: str
    route: str
    versions: Mapping[int, Version]


class _Assembly:
    def __init__(self, previous: Catalogue, serve_undeclared: bool) -> None:
        self._previous, self._serve_undeclared = previous, serve_undeclared
        self._broken: dict[tuple[str, int | None], str] = {}
        self._notes: list[str] = []

    def build(self, folders: Collection[Folder], documents: Collection[Document | Fault]) -> Catalogue:
        members = self._claims(self._members(folders))
        about = self._by_model(documents, {folder.name for folder in folders})
        models = {}
        for member in members:
            if model := self._served(member, about[member.folder.name]):
                models[model.name] = model
        return Catalogue(models, self._broken, tuple(self._notes))

    def _members(self, folders: Collection[Folder]) -> list[_Member]:
        """Folders with at least one valid version; versions of another family or route are broken."""
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

    def _claims(self, members: list[_Member]) -> list[_Member]:
        """One model for each family and route: the one that had it, else the first by name."""
        holders: dict[tuple[str, str], str] = {}
        ordered = sorted(members, key=lambda m: (not self._held(m), m.folder.name))
        for member in ordered:
            name, claim = member.folder.name, (member.family, member.route)
            if (holder := holders.setdefault(claim, name)) != name:
                text = f"family '{member.family}', route '{member.route}' belongs to model '{holder}'"
                self._broken[name, None] = text
        return [m for m in ordered if holders[m.family, m.route] == m.folder.name]

    def _held(self, member: _Member) -> bool:
        known = self._previous.models.get(member.folder.name)
        return known is not None and (known.family, known.route) == (member.family, member.route)

    def _by_model(
        self, documents: Collection[Document | Fault], known: set[str]
    ) -> defaultdict[str, list[Document | Fault]]:
        """Documents and faults under the model that they are about; what is about none is only noted."""
        about: defaultdict[str, list[Document | Fault]] = defaultdict(list)
        first: dict[tuple[str, str], Document] = {}
        for item in documents:
            if isinstance(item, Fault):
                self._notes.append(item.text)
                about[item.model].append(item)
                continue
            spec = item.served.spec
            if spec.model not in known:
                self._notes.append(f"{item.where}: spec.model: the model repository has no '{spec.model}'")
            same_model = first.setdefault(("model", spec.model), item)
            metadata = item.served.metadata
            same_name = first.setdefault((metadata.namespace, f"name {metadata.name}"), item)
            for other in {same_model.where: same_model, same_name.where: same_name}.values():
                if other is not item:
                    about[spec.model].append(self._doubled(item, other))
            about[spec.model].append(item)
        return about

    def _doubled(self, item: Document, other: Document) -> Fault:
        metadata, model = item.served.metadata, item.served.spec.model
        same = f"model '{model}'" if other.served.spec.model == model else f"name '{metadata.name}'"
        fault = Fault(model, f"{item.where}: a second document for {same}; {other.where} is one")
        self._notes.append(fault.text)
        return fault

    def _served(self, member: _Member, about: list[Document | Fault]) -> Model | None:
        """The model with its traffic, or None when it is kept out."""
        name = member.folder.name
        if not about:
            if self._serve_undeclared:
                return _model(member, {max(member.versions): 100}, Residency())
            self._broken[name, None] = "no ServedModel document"
            return None
        documents = [item for item in about if isinstance(item, Document)]
        if len(about) == len(documents):
            return self._declared(member, documents[0])
        if last := self._last_good(member):
            return last
        self._broken[name, None] = "its ServedModel document is refused"
        return None

    def _declared(self, member: _Member, document: Document) -> Model | None:
        """By one good document, if its versions are there."""
        name, spec = member.folder.name, document.served.spec
        shares = {share.version: share.percent for share in spec.traffic}
        missing = sorted(set(shares) - set(member.versions))
        if not missing:
            return _model(member, shares, spec.residency)
        known = ", ".join(map(str, sorted(member.versions)))
        fault = f"model '{name}' has no valid version {missing[0]}; it has {known}"
        self._notes.append(f"{document.where}: spec.traffic: {fault}")
        if last := self._last_good(member):
            return last
        if left := _what_is_left(spec.traffic, member.versions):
            return _model(member, left, spec.residency)
        self._broken[name, None] = "no version in its traffic is valid"
        return None

    def _last_good(self, member: _Member) -> Model | None:
        """The model with the traffic it had, as long as those versions are there."""
        last = self._previous.models.get(member.folder.name)
        if last is None or not set(last.traffic) <= set(member.versions):
            return None
        return _model(member, last.traffic, last.residency)


def _model(member: _Member, traffic: Mapping[int, int], residency: Residency) -> Model:
    folder = member.folder
    return Model(folder.name, member.family, member.route, folder.config, member.versions, traffic, residency)


def _what_is_left(traffic: tuple[Traffic, ...], versions: Mapping[int, Version]) -> dict[int, int]:
    """The shares of the versions that exist, the largest with those of the others; empty if none is left."""
    left = {share.version: share.percent for share in traffic if share.version in versions}
    if not any(left.values()):
        return {}
    largest = max(left, key=lambda version: (left[version], version))
    left[largest] += 100 - sum(left.values())
    return left
