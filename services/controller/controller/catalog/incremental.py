"""The incremental build of the catalog: a change costs its component and not all models.

Two models or documents influence each other only if they share a claim: a model, a name, or a family and route. Items
that are connected by claims form a component, which `build_part` builds without the others. One more thing is shared:
the signature of a family. If it changes, the members of the family are built too.

The result is that of `build_catalog`, up to the order of its entries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from typing import NamedTuple, TypeVar

from controller.catalog.builder import BuildOptions, CatalogPart, Undeclared, VersionsInTraffic, build_part
from controller.catalog.entities import Catalog, Model, ScannedModel
from controller.catalog.served_model import Document, DocumentFault
from controller.catalog.signatures import FamilySignatures
from triptych.contract.verification.families import (
    FamilyCheck,
    ModelIdentities,
    RouteCheck,
    check_routes,
    check_signatures,
)

Item = ScannedModel | Document | DocumentFault
Claim = tuple[str, ...]  # its kind first: "model", "document", "name" or "route"

MAX_CHANGES = 10_000  # with more, all is built: the sets of their claims would take more time and memory

T = TypeVar("T", bound=Item)
K = TypeVar("K")
V = TypeVar("V")


class _Built(NamedTuple):
    """A part, with all models and places of documents that it replaces: those that are gone have no result."""

    part: CatalogPart
    names: Set[str]
    places: Collection[str]
    affected: Set[str]  # models whose family has another signature, or another holder of it
    routes: RouteCheck


class IncrementalBuilder:
    """Builds what the changes since the last build can influence.

    Models and documents are compared by identity: an unchanged one is the same object, and their order stays.
    `versions_in_traffic` returns versions of the last catalog only.
    """

    def __init__(
        self,
        *,
        undeclared: Undeclared,
        versions_in_traffic: VersionsInTraffic = lambda model: (),
        max_changes: int = MAX_CHANGES,
    ) -> None:
        self._max_changes = max_changes
        self._options = BuildOptions(undeclared, versions_in_traffic)
        self.catalog = Catalog()
        self._reset()

    def _reset(self) -> None:
        """Forget all but the catalog: the next build is a full one."""
        self._folders: Sequence[ScannedModel] = ()
        self._documents: Sequence[Document | DocumentFault] = ()
        self._claims = ClaimIndex()
        self._signatures = FamilySignatures(self.catalog.signatures)
        self._result = CatalogPart()
        self._due: frozenset[str] = frozenset()

    def apply(self, folders: Sequence[ScannedModel], documents: Sequence[Document | DocumentFault]) -> Catalog:
        """The catalog of these models and documents. The build after an exception is a full one."""
        try:
            self.catalog = self._apply(folders, documents)
        except BaseException:
            self._reset()
            raise
        return self.catalog

    def _apply(self, folders: Sequence[ScannedModel], documents: Sequence[Document | DocumentFault]) -> Catalog:
        gone, new = _difference(self._folders, folders)
        gone_documents, new_documents = _difference(self._documents, documents)
        removed: list[Item] = [*gone, *gone_documents]
        added: list[Item] = [*new, *new_documents]
        self._folders, self._documents = folders, documents
        self._claims.replace(removed, added)
        if len(removed) + len(added) + len(self._due) > self._max_changes:
            self._result = CatalogPart()
            return self._merge(self._build(folders, documents, {folder.name for folder in gone}))
        due = {claim for item in (*removed, *added) for claim in _claims(item)}
        due |= {("model", name) for name in self._due}
        built = self._build_components(due)
        if members := built.affected - built.names:
            built = self._build_components(due | {("model", name) for name in members})
        return self._merge(built)

    def _build_components(self, due: Collection[Claim]) -> _Built:
        """Build all that is connected with these claims."""
        items = self._claims.component(due)
        folders = [folder for folder in self._folders if id(folder) in items]
        documents = [document for document in self._documents if id(document) in items]
        names, places = ({claim[1] for claim in due if claim[0] == kind} for kind in ("model", "document"))
        return self._build(folders, documents, names, places)

    def _build(
        self,
        folders: Sequence[ScannedModel],
        documents: Sequence[Document | DocumentFault],
        names: Set[str],
        places: Set[str] = frozenset(),
    ) -> _Built:
        """Build these models and documents. `names` and `places` may be gone."""
        names |= {folder.name for folder in folders}
        affected, routes = set[str](), RouteCheck({}, (), {})

        def check(models: Sequence[ModelIdentities]) -> FamilyCheck:
            nonlocal routes
            routes = check_routes(models)
            affected.update(self._signatures.update(names, routes))
            return FamilyCheck(routes.routes, {}, check_signatures(routes, self._signatures.chosen))

        part = build_part(folders, documents, self.catalog, check, self._options)
        return _Built(part, names, places | part.document_results.keys(), affected, routes)

    def _merge(self, built: _Built) -> Catalog:
        """Replace the results of what was built."""
        before, part, names, places = self._result, built.part, built.names, built.places
        invalid = {fault: text for fault, text in before.invalid.items() if fault[0] not in names}
        self._result = CatalogPart(
            _merged(before.models, names, part.models),
            invalid | dict(part.invalid),
            _merged(before.model_warnings, names, part.model_warnings),
            _merged(before.document_warnings, places, part.document_warnings),
            _merged(before.document_results, places, part.document_results),
            hints=_merged(before.hints, names, part.hints),
            edits=_merged(before.edits, names, part.edits),
        )
        catalog = self._result.catalog(self._signatures.in_force())
        self._due = self._next_due(built)
        return catalog

    def _next_due(self, built: _Built) -> frozenset[str]:
        """Models for which the next build may give another result although nothing about them changes.

        The last state of a model is an input of its build: it holds its route, and its claim to the signature of its
        family comes before those of others. Both are the same in all later builds, and so is the state, if it was
        served without a problem. A removed version is kept while it has traffic.
        """
        models, invalid = built.part.models, {name for name, _ in built.part.invalid}
        changed = {name for name in built.names if models.get(name) is not self.catalog.models.get(name)}
        held = [
            owner._replace(held=built.routes.routes[owner.name] if owner.name in models else None)
            for owner in built.routes.owners
            if owner.name in changed
        ]
        due = self._signatures.update(changed, built.routes._replace(owners=held))
        due |= {name for name in changed if name in invalid or not _is_without_problem(models.get(name), built.part)}
        return frozenset(due | {name for name, model in models.items() if _is_kept_for_traffic(model)})


class ClaimIndex:
    """The models and documents that have each claim."""

    def __init__(self) -> None:
        self._holders: dict[Claim, tuple[Item, ...]] = {}  # mostly one, and a tuple is half of a list

    def replace(self, removed: Iterable[Item], added: Iterable[Item]) -> None:
        """Drop and add models and documents."""
        gone = {id(item): item for item in removed}
        for claim in {claim for item in gone.values() for claim in _claims(item)}:
            left = tuple(item for item in self._holders.pop(claim) if id(item) not in gone)
            if left:
                self._holders[claim] = left
        new: defaultdict[Claim, list[Item]] = defaultdict(list)
        for item in added:
            for claim in _claims(item):
                new[claim].append(item)
        for claim, items in new.items():
            self._holders[claim] = (*self._holders.get(claim, ()), *items)

    def component(self, claims: Iterable[Claim]) -> Collection[int]:
        """The ids of all items that are connected with these claims."""
        found: set[int] = set()
        seen = set(claims)
        queue = list(seen)
        while queue:
            for item in self._holders.get(queue.pop(), ()):
                if id(item) not in found:
                    found.add(id(item))
                    new = set(_claims(item)) - seen
                    seen |= new
                    queue += new
        return found


def _claims(item: Item) -> Iterator[Claim]:
    """The claims of an item. Two items without a common claim do not influence each other."""
    if isinstance(item, ScannedModel):
        yield "model", item.name
        yield from {("route", *version.identity[:2]) for version in item.versions.values()}
        return
    yield "document", item.source.where
    if isinstance(item, Document):
        yield "name", item.namespace, item.name
    if item.model:
        yield "model", item.model


def _is_without_problem(model: Model | None, part: CatalogPart) -> bool:
    """Whether a model is served, by a document without problems, and all its versions are as published."""
    if model is None or any(version.removed or version.fault for version in model.versions.values()):
        return False
    return not model.document or not part.document_results[model.document].problems


def _is_kept_for_traffic(model: Model) -> bool:
    """Whether a removed version is kept only because it still has traffic."""
    return any(
        version.removed and not version.fault and number not in model.traffic
        for number, version in model.versions.items()
    )


def _difference(before: Sequence[T], after: Sequence[T]) -> tuple[list[T], list[T]]:
    """Items that are only in `before`, and items that are only in `after`, by identity."""
    ids_before, ids_after = set(map(id, before)), set(map(id, after))
    if ids_before == ids_after:
        return [], []
    gone = [each for each in before if id(each) not in ids_after]
    return gone, [each for each in after if id(each) not in ids_before]


def _merged(before: Mapping[K, V], dropped: Iterable[K], new: Mapping[K, V]) -> Mapping[K, V]:
    """A copy of `before` without the dropped keys, with the entries of `new`."""
    merged = dict(before)
    for key in dropped:
        merged.pop(key, None)
    merged.update(new)
    return merged
