"""The incremental build gives what a full build gives, and builds no more than a change can influence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.catalog import incremental
from controller.catalog.builder import CatalogPart, Undeclared, build_catalog, build_part
from controller.catalog.entities import Catalog, Reason, ScannedModel, Version
from controller.catalog.incremental import IncrementalBuilder
from controller.catalog.served_model import Document, DocumentFault, DocumentSource, RecordedDigests, ServedModel
from controller.catalog.shared_values import NO_ALIASES
from triptych.contract.verification.families import VersionIdentity

Items = tuple[Document | DocumentFault, ...]

MODELS = [f"m{number}" for number in range(6)]
PLACES = [f"servedmodel/here/d{number}" for number in range(6)]
SHARES: list[dict[int, int]] = [{1: 100}, {2: 100}, {1: 60, 2: 40}, {1: 0, 2: 100}, {1: 20, 2: 30, 3: 50}]


def version(number: int, identity: VersionIdentity, **state: Any) -> Version:
    return Version(number, identity, b"{}", "", **state)


def folder(name: str, *versions: Version, **state: Any) -> ScannedModel:
    return ScannedModel(name, b"", {each.number: each for each in versions}, **state)


def document(
    place: str,
    model: str,
    shares: Mapping[int, int],
    name: str = "",
    named: Mapping[str, int] = NO_ALIASES,
    **source: Any,
) -> Items:
    traffic = [{"version": number, "percent": percent} for number, percent in shares.items()]
    metadata = {"name": name or place.rpartition("/")[2]}
    head = {"apiVersion": "triptych.dev/v1alpha1", "kind": "ServedModel", "metadata": metadata}
    spec = {"model": model, "traffic": traffic, "aliases": dict(named)}
    served = ServedModel.model_validate(head | {"spec": spec})
    return (Document.of(DocumentSource(place, **source), served),)


# A random repository


@dataclass(frozen=True)
class Step:
    """Folders and documents that are written (None: removed), and the versions that have traffic then."""

    folders: Mapping[str, ScannedModel | None]
    documents: Mapping[str, Items | None]
    traffic: Mapping[str, set[int]] = field(default_factory=dict)


@st.composite
def versions(draw: st.DrawFn, model: str, number: int) -> Version:
    route = draw(st.sampled_from([model, model, model, model, model, "A"]))  # mostly its own: small components
    identity = VersionIdentity(draw(st.sampled_from("fffg")), route, draw(st.sampled_from("sst")))
    removed, fault = draw(st.sampled_from([(False, ""), (False, ""), (True, ""), (True, "changed"), (False, "lost")]))
    recorded = draw(st.sampled_from([None, None, {"model.onnx": "sha256:1"}, {"model.onnx": "sha256:2"}]))
    digest = draw(st.sampled_from(["", "c1", "c2"]))
    return version(number, identity, removed=removed, fault=fault, files=recorded, source_digest=digest)


@st.composite
def folders(draw: st.DrawFn, name: str) -> ScannedModel:
    numbers = sorted(draw(st.sets(st.integers(1, 3), max_size=3)))
    return folder(
        name,
        *[draw(versions(name, number)) for number in numbers],
        invalid=draw(st.sampled_from([{}, {}, {3: "no model file"}])),
        problem=draw(st.sampled_from(["", "is being written"])),
        warnings=draw(st.sampled_from([(), (), ("a warning",)])),
        removed=draw(st.sampled_from([False, False, False, True])),
    )


@st.composite
def documents(draw: st.DrawFn, place: str) -> Items:
    source: dict[str, Any] = {
        "created": draw(st.sampled_from(["", "2026-01-01", "2026-02-01"])),
        "traffic": draw(st.sampled_from([{}, {}, {1: 100}, {2: 100}])),
        "aliases": draw(st.sampled_from([{}, {}, {"a": 1}])),
        "recorded_digests": draw(st.sampled_from([{}, {}, {1: RecordedDigests("", "c1")}])),
    }
    model = draw(st.sampled_from([*MODELS, "unknown"]))
    if draw(st.integers(0, 4)):
        name = draw(st.sampled_from(["", "", "", "shared"]))
        named = draw(st.sampled_from([{}, {}, {"a": 1}, {"a": 2, "b": 3}, {"a": 4}]))
        return document(place, model, draw(st.sampled_from(SHARES)), name, named, **source)
    model = draw(st.sampled_from([model, ""]))
    where = DocumentSource(place, **source)
    return tuple(DocumentFault(model, f"{place}: fault {number}", where) for number in range(draw(st.integers(1, 2))))


@st.composite
def steps(draw: st.DrawFn) -> Step:
    names = draw(st.sets(st.sampled_from(MODELS), max_size=3))
    places = draw(st.sets(st.sampled_from(PLACES), max_size=3))
    return Step(
        {name: draw(st.none() | folders(name) | folders(name)) for name in sorted(names)},
        {place: draw(st.none() | documents(place) | documents(place)) for place in sorted(places)},
        draw(st.dictionaries(st.sampled_from(MODELS), st.sets(st.integers(1, 3)), max_size=3)),
    )


def full_step() -> st.SearchStrategy[Step]:
    """A first step with most folders and documents."""
    return st.builds(
        Step,
        st.fixed_dictionaries({name: folders(name) for name in MODELS}),
        st.fixed_dictionaries({place: st.none() | documents(place) for place in PLACES}),
    )


class Repository:
    """All folders and documents, and both builders."""

    def __init__(self, undeclared: Undeclared, max_changes: int = 100) -> None:
        self.undeclared, self.traffic = undeclared, dict[str, set[int]]()
        self.folders: dict[str, ScannedModel] = {}
        self.documents: dict[str, Items] = {}
        self.full = Catalog()
        self.incremental = IncrementalBuilder(
            undeclared=undeclared, versions_in_traffic=self.versions_in_traffic, max_changes=max_changes
        )

    def versions_in_traffic(self, model: str) -> set[int]:
        return self.traffic.get(model, set())

    def write(self, step: Step) -> None:
        self.folders = {name: each for name, each in ({**self.folders, **step.folders}).items() if each}
        self.documents = {place: each for place, each in ({**self.documents, **step.documents}).items() if each}
        known = self.full.models  # the gate gives traffic only to versions of the last catalog
        self.traffic = {n: each & known[n].versions.keys() for n, each in step.traffic.items() if n in known}

    def build(self) -> tuple[Catalog, Catalog]:
        """The catalogs of a full and of an incremental build."""
        scanned = [each for _, each in sorted(self.folders.items())]
        read = [item for _, items in sorted(self.documents.items()) for item in items]
        self.full = build_catalog(
            scanned,
            read,
            self.full,
            undeclared=self.undeclared,
            versions_in_traffic=self.versions_in_traffic,
        )
        return self.full, self.incremental.apply(scanned, read)


def assert_equal(one: Catalog, other: Catalog) -> None:
    """Equal up to the order of entries."""
    assert Counter(one.warnings) == Counter(other.warnings)
    assert replace(one, warnings=()) == replace(other, warnings=())


@settings(max_examples=60, deadline=None)
@given(
    first=full_step(),
    later=st.lists(steps(), max_size=8),
    undeclared=st.sampled_from(["lowest", "highest", "none"]),
    max_changes=st.sampled_from([4, 100, 100]),
)
def test_each_change_gives_the_catalog_of_a_full_build(
    first: Step, later: list[Step], undeclared: Undeclared, max_changes: int
) -> None:
    repository, before = Repository(undeclared, max_changes), (Catalog(), Catalog())
    for step in [first, *later, Step({}, {}), Step({}, {})]:
        repository.write(step)
        full, incremental_one = repository.build()
        assert_equal(full, incremental_one)
        kept = [
            {name for name, model in after.models.items() if earlier.models.get(name) is model}
            for earlier, after in zip(before, (full, incremental_one), strict=True)
        ]
        assert kept[0] == kept[1], "followers compare models by identity"
        before = full, incremental_one


# What a change builds


class Countries:
    """Models of one family, each with its own route and a document, built once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int = 20) -> None:
        self.folders = [folder(f"m{n:02}", version(1, VersionIdentity("f", f"R{n}", "s"))) for n in range(count)]
        self.documents = [item for n in range(count) for item in document(f"here/d{n:02}", f"m{n:02}", {1: 100})]
        self.builder = IncrementalBuilder(undeclared="none")
        self.built: list[str] = []
        monkeypatch.setattr(incremental, "build_part", self._build_part)
        self.apply()

    def _build_part(self, folders: list[ScannedModel], *arguments: Any) -> CatalogPart:
        self.built += [each.name for each in folders]
        return build_part(folders, *arguments)

    def apply(self) -> list[str]:
        """Build, and return the models that were built."""
        self.built = []
        self.builder.apply(list(self.folders), list(self.documents))
        return self.built


def test_nothing_is_built_if_nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    countries = Countries(monkeypatch)
    before = countries.builder.catalog
    assert countries.apply() == []
    assert countries.builder.catalog == before


def test_a_changed_document_builds_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    countries = Countries(monkeypatch)
    countries.documents[7:8] = document("here/d07", "m07", {2: 100})
    assert countries.apply() == ["m07"]
    assert countries.builder.catalog.document_results["here/d07"].problems[0][0] is Reason.UNKNOWN_VERSION
    assert countries.apply() == []


def test_a_changed_folder_builds_its_model_and_the_claimants_of_its_route(monkeypatch: pytest.MonkeyPatch) -> None:
    countries = Countries(monkeypatch)
    countries.folders[7] = folder("m07", version(1, VersionIdentity("f", "R9", "s")))
    assert countries.apply() == ["m07", "m09"]
    assert countries.builder.catalog.invalid["m07", None] == "family 'f', route 'R9' belongs to model 'm09'"


def test_another_signature_of_a_family_builds_its_members(monkeypatch: pytest.MonkeyPatch) -> None:
    countries = Countries(monkeypatch, 4)
    for number in (0, 1):
        countries.folders[number] = folder(f"m{number:02}", version(1, VersionIdentity("f", f"R{number}", "t")))
    assert countries.apply() == ["m00", "m01"]
    assert set(countries.builder.catalog.models) == {"m02", "m03"}, "the signature in force has two holders left"
    countries.apply()
    for number in (2, 3):
        countries.folders[number] = folder(f"m{number:02}")
    assert set(countries.apply()) == {"m00", "m01", "m02", "m03"}
    assert set(countries.builder.catalog.models) == {"m00", "m01"}


def test_another_holder_of_the_signature_builds_the_models_whose_faults_name_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    countries = Countries(monkeypatch)
    countries.folders[5] = folder("m05", version(1, VersionIdentity("f", "R5", "t")))
    countries.apply()
    assert "in model 'm00' version 1" in countries.builder.catalog.invalid["m05", 1]
    countries.apply()
    del countries.folders[0]
    assert set(countries.apply()) == {"m05"}
    assert "in model 'm01' version 1" in countries.builder.catalog.invalid["m05", 1]


def test_a_removed_version_that_lost_its_recorded_share_is_missing_in_the_next_build() -> None:
    identity = VersionIdentity("f", "R", "s")
    versions = version(1, identity), version(2, identity, removed=True)
    source = document(PLACES[0], "m0", {1: 50, 2: 30, 3: 20}, traffic={2: 60, 4: 40})
    repository = Repository(undeclared="none")
    repository.write(Step({"m0": folder("m0", *versions)}, {PLACES[0]: source}))
    first, again = (
        [[reason for reason, _ in each.document_results[PLACES[0]].problems] for each in repository.build()]
        for _ in range(2)
    )
    assert first == [[Reason.UNKNOWN_VERSION]] * 2
    assert again == [[Reason.UNKNOWN_VERSION, Reason.VERSION_REMOVED]] * 2


def test_a_served_model_is_named_as_holder_of_a_signature_in_the_next_build() -> None:
    models = [folder(f"m{n}", version(1, VersionIdentity("f", f"R{n}", "sst"[n]))) for n in range(3)]
    repository = Repository(undeclared="none")
    repository.write(Step({each.name: each for each in models}, {PLACES[1]: document(PLACES[1], "m1", {1: 100})}))
    first, again = repository.build(), repository.build()
    assert ["in model 'm0' version 1" in each.invalid["m2", 1] for each in first] == [True, True]
    assert ["in model 'm1' version 1" in each.invalid["m2", 1] for each in again] == [True, True]


def test_a_removed_version_leaves_with_its_traffic_though_no_input_changes() -> None:
    first, second = (version(number, VersionIdentity("f", "R", "s")) for number in (1, 2))
    repository = Repository(undeclared="none")
    repository.write(Step({"m0": folder("m0", first, second)}, {PLACES[0]: document(PLACES[0], "m0", {2: 100})}))
    repository.build()
    gone = folder("m0", first, replace(second, removed=True))
    repository.write(Step({"m0": gone}, {PLACES[0]: document(PLACES[0], "m0", {1: 100})}, {"m0": {2}}))
    assert [set(each.models["m0"].versions) for each in repository.build()] == [{1, 2}, {1, 2}]
    repository.build()
    repository.write(Step({}, {}))
    assert [set(each.models["m0"].versions) for each in repository.build()] == [{1}, {1}]


def test_the_build_after_an_internal_error_is_a_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    countries = Countries(monkeypatch)
    del countries.folders[3], countries.documents[3]
    with monkeypatch.context() as patch:
        patch.setattr(incremental, "build_part", None)
        with pytest.raises(TypeError):
            countries.apply()
    assert len(countries.apply()) == 19
    assert set(countries.builder.catalog.models) == {each.name for each in countries.folders}
