"""The catalog out of scanned models and ServedModel documents: valid versions and the traffic of each model. Pure.

A fault removes as little traffic as possible: one version or one model, never another one. If a document is invalid,
the last valid traffic of its model stays in force. A version in traffic stays served when its files are removed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Literal, NamedTuple

from controller.catalog.digests import are_comparable, refusal
from controller.catalog.entities import (
    NONE_VALID,
    Catalog,
    DocumentResult,
    Edit,
    Model,
    Problem,
    Reason,
    ScannedModel,
    Version,
)
from controller.catalog.remaining import remaining_shares, without
from controller.catalog.served_model import Document, DocumentFault, DocumentSource, PlacementSpec, traffic_hint
from controller.catalog.shared_values import NO_ALIASES, NO_SHARES, shared_shares
from controller.catalog.version_problems import alias_problems, removed_problems, version_problem
from triptych.contract.reading.files import printable
from triptych.contract.verification.families import FamilyCheck, Fault, ModelIdentities, check_families
from triptych.contract.verification.tree import CONTRACT

__all__ = ["Catalog", "DocumentResult", "Model", "Reason", "ScannedModel", "Version", "build_catalog"]

_SEVERITY = {reason: number for number, reason in enumerate(Reason)}

VersionsInTraffic = Callable[[str], Collection[int]]
Undeclared = Literal["lowest", "highest", "none"]  # the version that serves a model without a document
CheckFamilies = Callable[[Sequence[ModelIdentities]], FamilyCheck]


def build_catalog(
    folders: Collection[ScannedModel],
    documents: Collection[Document | DocumentFault],
    previous: Catalog,
    *,
    undeclared: Undeclared,
    versions_in_traffic: VersionsInTraffic = lambda model: (),
) -> Catalog:
    """Build the catalog. `previous` decides who was first, and which traffic was valid last.

    `versions_in_traffic` returns the versions of a model that have traffic now, which may differ from its document.
    """
    check = partial(check_families, signatures=previous.signatures)
    part = build_part(folders, documents, previous, check, BuildOptions(undeclared, versions_in_traffic))
    return part.catalog(part.signatures)


class BuildOptions(NamedTuple):
    """The version that serves a model without a document, and the versions of a model that have traffic now."""

    undeclared: Undeclared
    versions_in_traffic: VersionsInTraffic = lambda model: ()


@dataclass(frozen=True)
class CatalogPart:
    """The result for some models and documents; warnings and hints by model, or by place of the document."""

    models: Mapping[str, Model] = field(default_factory=dict)
    invalid: Mapping[Fault, str] = field(default_factory=dict)
    model_warnings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    document_warnings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    document_results: Mapping[str, DocumentResult] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)
    edits: Mapping[str, tuple[Edit, ...]] = field(default_factory=dict)

    def catalog(self, signatures: Mapping[str, str]) -> Catalog:
        """The catalog of this part, with the signatures of all families."""
        warnings = chain(*self.document_warnings.values(), *self.model_warnings.values())
        return Catalog(
            self.models, self.invalid, tuple(warnings), self.document_results, signatures, self.hints, self.edits
        )


def build_part(
    folders: Collection[ScannedModel],
    documents: Collection[Document | DocumentFault],
    previous: Catalog,
    check: CheckFamilies,
    options: BuildOptions,
) -> CatalogPart:
    """Build models and documents that no other model or document influences, except by `check`."""
    return _CatalogBuilder(previous, check, options).build(folders, documents)


@dataclass(frozen=True)
class _Declaration:
    """The model that a document names; `document` is None if it is invalid."""

    source: DocumentSource
    model: str
    document: Document | None


_UNDECLARED = DocumentSource("")
_NO_PLACEMENT = PlacementSpec()


class _Candidate(NamedTuple):
    """A scanned model with its family, its route and its valid versions."""

    folder: ScannedModel
    family: str
    route: str
    versions: Mapping[int, Version]


class _CatalogBuilder:
    def __init__(self, previous: Catalog, check: CheckFamilies, options: BuildOptions) -> None:
        self._previous, self._check_families = previous, check
        self._undeclared_version, self._versions_in_traffic = options
        self._invalid: dict[Fault, str] = {}
        self._document_warnings: defaultdict[str, list[str]] = defaultdict(list)
        self._check = FamilyCheck()
        self._problems: defaultdict[str, list[Problem]] = defaultdict(list)
        self._alias_problems: dict[str, tuple[Problem, ...]] = {}
        self._hints: dict[str, str] = {}

    def build(self, folders: Collection[ScannedModel], documents: Collection[Document | DocumentFault]) -> CatalogPart:
        declarations = self._declarations(documents)
        owners = self._owners(declarations)
        unchanged = [self._without_changed(folder, owners.get(folder.name)) for folder in folders]
        served = {
            each.folder.name: self._served(each, owners.get(each.folder.name))
            for each in self._candidates(unchanged, owners)
        }
        models = {name: self._reused(model) for name, model in served.items() if model is not None}
        self._check_declared_models(owners, {folder.name for folder in folders})
        edits = {folder.name: folder.edits for folder in folders if folder.edits}
        self._add_edits(edits, owners)
        return CatalogPart(
            models,
            self._invalid,
            {folder.name: folder.warnings for folder in folders if folder.warnings},
            self._document_warnings,
            {each.source.where: self._document_result(each) for each in declarations},
            self._check.signatures,
            self._hints,
            edits,
        )

    def _add_edits(self, edits: Mapping[str, tuple[Edit, ...]], owners: Mapping[str, _Declaration]) -> None:
        """Add a problem to documents of models whose published contract or configuration was edited."""
        for name in edits.keys() & owners.keys():
            problems = self._problems[owners[name].source.where]
            problems += [(Reason.VERSION_CHANGED, edit.text) for edit in edits[name]]

    def _reused(self, model: Model) -> Model:
        """The previous model if it is equal: followers of the catalog compare by identity."""
        previous = self._previous.models.get(model.name)
        return previous if previous is not None and previous == model else model

    def _declarations(self, documents: Collection[Document | DocumentFault]) -> list[_Declaration]:
        """One declaration for each document, whatever the number of its faults."""
        declarations: dict[str, _Declaration] = {}
        names: dict[tuple[str, str], DocumentSource] = {}
        for item in documents:
            where = item.source.where
            if isinstance(item, DocumentFault):
                self._document_warnings[where].append(item.text)
                self._problems[where].append((Reason.INVALID, item.text.removeprefix(f"{where}: ")))
                declarations[where] = _Declaration(item.source, item.model, None)
                continue
            first = names.setdefault((item.namespace, item.name), item.source)
            document = item if first is item.source else None
            if document is None:
                text = f"a second document for name '{item.name}'; {first.where} is one"
                self._problem(item.source, Reason.INVALID, text)
            declarations[where] = _Declaration(item.source, item.model, document)
        return list(declarations.values())

    def _owners(self, declarations: Iterable[_Declaration]) -> dict[str, _Declaration]:
        """The declaration that owns each model: the one that had it, else the oldest."""
        owners: dict[str, _Declaration] = {}
        for declaration in sorted(declarations, key=self._seniority):
            owner = owners.setdefault(declaration.model, declaration) if declaration.model else declaration
            if owner is not declaration:
                text = f"a second document for model '{printable(declaration.model)}'; {owner.source.where} is one"
                self._problem(declaration.source, Reason.ROUTE_TAKEN, text)
        return owners

    def _seniority(self, declaration: _Declaration) -> tuple[bool, bool, str]:
        had = self._previous.models.get(declaration.model)
        return (
            had is None or had.document != declaration.source.where,
            not declaration.source.traffic,
            declaration.source.created,
        )

    def _without_changed(self, folder: ScannedModel, declaration: _Declaration | None) -> ScannedModel:
        """The model without versions whose files differ from the digests recorded in the status before a restart."""
        versions, invalid = dict(folder.versions), dict(folder.invalid)
        for number, recorded_digests in (declaration.source.recorded_digests if declaration else {}).items():
            version = versions.get(number)
            if version is None:
                continue
            if (
                recorded_digests.contract
                and version.source_digest
                and recorded_digests.contract != version.source_digest
            ):
                invalid[number] = refusal(number, f"{CONTRACT} changed before this process started")
                del versions[number]
            elif (
                version.files_digest
                and are_comparable(recorded_digests.files, version.files_digest)
                and recorded_digests.files != version.files_digest
            ):
                invalid[number] = refusal(number, "its files changed before this process started")
                versions[number] = replace(version, removed=True, fault=invalid[number], files=None)
        return replace(folder, versions=versions, invalid=invalid) if len(invalid) > len(folder.invalid) else folder

    def _candidates(
        self, folders: Collection[ScannedModel], owners: Mapping[str, _Declaration]
    ) -> Iterator[_Candidate]:
        """Models that have a valid version and agree with all others, by the same check as `triptych verify`."""
        self._check = self._check_families([self._identities(folder, owners.get(folder.name)) for folder in folders])
        for folder in folders:
            for number, fault in folder.invalid.items():
                self._invalid[folder.name, number] = fault
        self._invalid.update(self._check.faults)
        for folder in folders:
            name = folder.name
            versions = without(folder.versions, {n for n in folder.versions if (name, n) in self._check.faults})
            if text := self._check.faults.get((name, None)):
                if name in owners:
                    self._problem(owners[name].source, Reason.ROUTE_TAKEN, text)
            elif versions:
                yield _Candidate(folder, *self._check.routes[name], versions)
            else:
                self._invalid[name, None] = self._no_version(folder)

    def _identities(self, folder: ScannedModel, declaration: _Declaration | None) -> ModelIdentities:
        known = self._previous.models.get(folder.name)
        return ModelIdentities(
            folder.name,
            folder.identities,
            removed={number for number, version in folder.versions.items() if version.removed},
            held=(known.family, known.route) if known else None,
            preferred=bool(declaration and declaration.source.traffic),
        )

    def _no_version(self, folder: ScannedModel) -> str:
        found = {n: text for n in folder.versions if (text := self._check.faults.get((folder.name, n)))}
        faults = (f"version {n}: {text}" for n, text in sorted({**folder.invalid, **found}.items()))
        return folder.problem or "; ".join([NONE_VALID, *faults])

    def _check_declared_models(self, owners: Mapping[str, _Declaration], known: set[str]) -> None:
        """Add a problem to documents of models that do not exist or have no valid version."""
        for name, declaration in owners.items():
            if name not in known:
                text = f"spec.model: the model repository has no '{printable(name)}'"
                self._problem(declaration.source, Reason.UNKNOWN_MODEL, text)
            elif (name, None) in self._invalid and not self._problems[declaration.source.where]:
                self._problems[declaration.source.where].append((Reason.CONTRACT_INVALID, self._invalid[name, None]))

    def _problem(self, source: DocumentSource, reason: Reason, text: str) -> None:
        self._problems[source.where].append((reason, text))
        self._document_warnings[source.where].append(f"{source.where}: {text}")

    def _document_result(self, declaration: _Declaration) -> DocumentResult:
        where = declaration.source.where
        asked = declaration.document.traffic if declaration.document else NO_SHARES
        problems = sorted(self._problems.get(where, ()), key=lambda problem: _SEVERITY[problem[0]])
        aliases = self._alias_problems.get(where, ())
        return DocumentResult(declaration.source, declaration.model, asked, tuple(problems), aliases)

    def _served(self, candidate: _Candidate, declaration: _Declaration | None) -> Model | None:
        """The model with its traffic; None if it is not served."""
        if declaration is None:
            return self._undeclared(candidate)
        if declaration.document is not None:
            return self._declared(candidate, declaration, declaration.document)
        if last := self._last_good(candidate, declaration):
            return last
        self._invalid[candidate.folder.name, None] = "its ServedModel document is refused"
        return None

    def _undeclared(self, candidate: _Candidate) -> Model | None:
        """A model without a document serves one version as long as its folder exists."""
        name = candidate.folder.name
        if self._undeclared_version == "none":
            self._invalid[name, None] = "no ServedModel document"
        elif last := self._traffic_with_fault(candidate):
            return self._model(candidate, last, _NO_PLACEMENT)
        elif present := [number for number, version in candidate.versions.items() if not version.removed]:
            chosen = min(present) if self._undeclared_version == "lowest" else max(present)
            if max(present) > chosen:
                self._hints[name] = traffic_hint(name, chosen, max(present))
            return self._model(candidate, shared_shares([(chosen, 100)]), _NO_PLACEMENT)
        elif not candidate.folder.removed:
            self._invalid[name, None] = candidate.folder.problem or NONE_VALID
        return None

    def _traffic_with_fault(self, candidate: _Candidate) -> Mapping[int, int]:
        """The previous traffic if one of its versions has a fault now: a loaded version stays served. Else empty."""
        known = self._previous.models.get(candidate.folder.name)
        traffic = known.traffic if known and not known.document else {}
        versions = [candidate.versions.get(number) for number in traffic]
        return traffic if any(version is not None and version.fault for version in versions) else {}

    def _declared(self, candidate: _Candidate, declaration: _Declaration, document: Document) -> Model | None:
        """A model with a valid document serves the traffic of the document if its versions exist."""
        name, traffic, placement = candidate.folder.name, document.traffic, document.placement
        missing = [number for number in traffic if not self._may_have_traffic(candidate, number, declaration)]
        if not missing:
            self._warn_of_removed(candidate, declaration, traffic)
            return self._model(candidate, traffic, placement, declaration)
        for number in sorted(missing):
            found = version_problem(name, number, candidate.versions, self._invalid, "spec.traffic")
            self._problem(declaration.source, *found)
        if last := self._last_good(candidate, declaration):
            return last
        usable = {number: version for number, version in candidate.versions.items() if not version.removed}
        if left := remaining_shares(traffic, usable):
            return self._model(candidate, left, placement, declaration)
        self._invalid[name, None] = "no version in its traffic is valid"
        return None

    def _may_have_traffic(self, candidate: _Candidate, number: int, declaration: _Declaration) -> bool:
        """Whether a version may have traffic: it exists, or it was in traffic when it was removed."""
        version = candidate.versions.get(number)
        known = self._previous.models.get(candidate.folder.name)
        traffic = known.traffic if known else declaration.source.traffic
        return version is not None and (not version.removed or number in traffic)

    def _warn_of_removed(self, candidate: _Candidate, declaration: _Declaration, traffic: Mapping[int, int]) -> None:
        """Add a problem for each version that is in traffic and no longer on disk."""
        for problem in removed_problems(candidate.folder.name, traffic, candidate.versions, self._invalid):
            self._problem(declaration.source, *problem)

    def _last_good(self, candidate: _Candidate, declaration: _Declaration) -> Model | None:
        """The model with its previous traffic; None unless all of those versions exist."""
        known = self._previous.models.get(candidate.folder.name)
        traffic = known.traffic if known else declaration.source.traffic
        if not traffic or not all(self._may_have_traffic(candidate, number, declaration) for number in traffic):
            return None
        self._warn_of_removed(candidate, declaration, traffic)
        placement = (
            known.placement if known else declaration.document.placement if declaration.document else _NO_PLACEMENT
        )
        return self._model(candidate, traffic, placement, declaration)

    def _model(
        self,
        candidate: _Candidate,
        traffic: Mapping[int, int],
        placement: PlacementSpec,
        declaration: _Declaration | None = None,
    ) -> Model:
        """The served model. A removed version is kept while it is in traffic or has a fault; an alias keeps none."""
        name, encoded_config = candidate.folder.name, candidate.folder.encoded_config
        kept = {*traffic, *self._versions_in_traffic(name)}
        gone = {n for n, each in candidate.versions.items() if each.removed and not each.fault and n not in kept}
        source = declaration.source if declaration else _UNDECLARED
        model = Model(
            name,
            candidate.family,
            candidate.route,
            encoded_config,
            without(candidate.versions, gone),
            traffic,
            placement,
            source.where,
            source.traffic,
            self._aliases(name, declaration),
        )
        if problems := tuple(alias_problems(model, candidate.versions, self._invalid)):
            self._alias_problems[source.where] = problems
            self._document_warnings[source.where] += [f"{source.where}: {text}" for _, text in problems]
        return model

    def _aliases(self, name: str, declaration: _Declaration | None) -> Mapping[str, int]:
        """The aliases of the document, in force whatever its traffic; of an invalid document the previous ones."""
        if declaration is None:
            return NO_ALIASES
        if declaration.document is not None:
            return declaration.document.aliases
        known = self._previous.models.get(name)
        return known.aliases if known else declaration.source.aliases
