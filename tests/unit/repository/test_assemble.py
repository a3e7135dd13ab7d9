"""From folders and documents to the catalogue: what receives traffic, and what a fault takes out of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from repository.catalogue import Catalogue, assemble
from repository.scan import Scanner
from tests.unit.repository.folders import declare
from triptych.errors import UnknownModel, UnknownVersion

Read = Callable[..., Catalogue]
Publish = Callable[..., Path]


@pytest.fixture
def read(models: Path, documents: Path) -> Read:
    """Reads both folders anew, after an earlier catalogue if one is given."""
    scanner = Scanner(models, documents)

    def look(previous: Catalogue | None = None, serve_undeclared: bool = True) -> Catalogue:
        scan = scanner.look(settle=False)
        assert scan is not None
        previous = previous or Catalogue()
        return assemble(scan.folders, scan.documents, previous, serve_undeclared=serve_undeclared)

    return look


def test_a_model_without_a_document_serves_its_highest_valid_version(publish: Publish, read: Read) -> None:
    publish("sales_de", 2)
    publish("sales_de", 10)
    (publish("sales_de", 11) / "contract.yaml").write_text("kind: Contract")
    catalogue = read()
    assert catalogue.model("sales_de").traffic == {10: 100}
    assert "11/contract.yaml:1: family: Field required" in catalogue.broken["sales_de", 11]


def test_undeclared_models_can_be_kept_out(publish: Publish, read: Read) -> None:
    publish("sales_de")
    catalogue = read(serve_undeclared=False)
    assert catalogue.models == {}
    assert catalogue.broken["sales_de", None] == "no ServedModel document"


def test_a_document_splits_traffic_and_allows_a_dark_launch(publish: Publish, read: Read, documents: Path) -> None:
    for version in (1, 2, 3):
        publish("sales_de", version)
    declare(documents, "sales_de", {1: 95, 2: 5, 3: 0})
    model = read().model("sales_de")
    assert model.traffic == {1: 95, 2: 5, 3: 0}
    assert model.in_traffic == {1, 2}
    assert set(model.versions) == {1, 2, 3}


def test_a_wrong_document_leaves_the_last_good_traffic_in_force(publish: Publish, read: Read, documents: Path) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2)
    declare(documents, "sales_de", {1: 100, 2: 0})
    good = read()
    declare(documents, "sales_de", {1: 90, 2: 5})
    bad = read(good)
    assert bad.model("sales_de").traffic == {1: 100, 2: 0}
    assert any("percents must sum to 100, got 95" in fault for fault in bad.faults())


def test_a_wrong_document_without_a_good_one_keeps_only_its_own_model_out(
    publish: Publish, read: Read, documents: Path
) -> None:
    publish("sales_de", 1)
    publish("sales_fr", 1)
    declare(documents, "sales_de", {1: 99})
    catalogue = read()
    assert set(catalogue.models) == {"sales_fr"}
    assert catalogue.broken["sales_de", None] == "its ServedModel document is refused"


def test_traffic_to_a_version_that_is_not_there_is_refused(publish: Publish, read: Read, documents: Path) -> None:
    publish("sales_de", 1)
    good = read()
    declare(documents, "sales_de", {1: 50, 4: 50})
    catalogue = read(good)
    assert catalogue.model("sales_de").traffic == {1: 100}
    assert any("model 'sales_de' has no valid version 4; it has 1" in fault for fault in catalogue.faults())


def test_after_a_restart_the_versions_that_are_there_share_all_traffic(
    publish: Publish, read: Read, documents: Path
) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2)
    declare(documents, "sales_de", {1: 60, 2: 10, 4: 30})
    assert read().model("sales_de").traffic == {1: 90, 2: 10}


def test_a_document_for_versions_that_are_all_gone_keeps_the_model_out(
    publish: Publish, read: Read, documents: Path
) -> None:
    publish("sales_de", 1)
    declare(documents, "sales_de", {4: 100, 1: 0})
    catalogue = read()
    assert catalogue.models == {}
    assert catalogue.broken["sales_de", None] == "no version in its traffic is valid"


@pytest.mark.parametrize(("model", "name"), [("sales_de", "other"), ("sales_fr", "sales-de")])
def test_a_second_document_for_a_model_or_name_is_refused_with_both_places(
    publish: Publish, read: Read, documents: Path, model: str, name: str
) -> None:
    publish("sales_de", 1)
    publish("sales_fr", 1)
    declare(documents, "sales_de", {1: 100}, file="a")
    declare(documents, model, {1: 100}, name=name, file="b")
    catalogue = read()
    assert model not in catalogue.models
    assert any("b.yaml:1: a second document for" in fault and "a.yaml:1" in fault for fault in catalogue.faults())


def test_a_document_for_no_model_is_noted_and_stops_nothing(publish: Publish, read: Read, documents: Path) -> None:
    publish("sales_de")
    declare(documents, "sales_xx", {1: 100})
    catalogue = read()
    assert set(catalogue.models) == {"sales_de"}
    assert any("the model repository has no 'sales_xx'" in fault for fault in catalogue.faults())


def test_a_family_and_route_belong_to_the_model_that_had_them(publish: Publish, read: Read) -> None:
    publish("sales_de")
    before = read()
    publish("a_newcomer", route="DE")
    after = read(before)
    assert set(after.models) == {"sales_de"}
    assert after.broken["a_newcomer", None] == "family 'sales', route 'DE' belongs to model 'sales_de'"


def test_versions_of_one_model_agree_on_family_and_route(publish: Publish, read: Read) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2, route="AT")
    catalogue = read()
    assert catalogue.model("sales_de").traffic == {1: 100}
    assert "route 'DE' as in its other versions" in catalogue.broken["sales_de", 2]


def test_what_is_not_there_is_told_with_what_is(publish: Publish, read: Read) -> None:
    publish("sales_de")
    catalogue = read()
    with pytest.raises(UnknownModel, match="unknown model or family 'sales_zz'; known: sales_de"):
        catalogue.model("sales_zz")
    with pytest.raises(UnknownVersion, match="model 'sales_de' has no version '7'; known: 1"):
        catalogue.version("sales_de", 7)
