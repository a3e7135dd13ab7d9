"""The catalog of folders and documents: versions with traffic, and versions that a fault leaves out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.catalog.builder import Undeclared, build_catalog
from controller.catalog.entities import Catalog, Reason
from controller.catalog.scanner import Scanner
from controller.catalog.served_model import Document, DocumentFault, DocumentSource, ServedModel
from tests.model_folders import declare
from triptych.errors import UnknownModel, UnknownVersion

Read = Callable[..., Catalog]
Publish = Callable[..., Path]


@pytest.fixture
def read(models: Path, documents: Path) -> Read:
    """Read both folders again, after an earlier catalog if one is given."""
    scanner = Scanner(models, documents)

    def read_again(previous: Catalog | None = None, undeclared: Undeclared = "lowest") -> Catalog:
        scan = scanner.scan(settle=False)
        assert scan is not None
        previous = previous or Catalog()
        return build_catalog(scan.folders, scan.documents, previous, undeclared=undeclared)

    return read_again


def reasons(catalog: Catalog) -> dict[str, list[Reason]]:
    """Faults of each document, by file name and line."""
    document_results = catalog.document_results.items()
    return {Path(where).name: [reason for reason, _ in result.problems] for where, result in document_results}


def test_a_model_without_a_document_serves_its_lowest_valid_version(publish: Publish, read: Read) -> None:
    (publish("sales_de", 1) / "contract.yaml").write_text("kind: Contract")
    publish("sales_de", 2)
    publish("sales_de", 10)
    catalog = read()
    assert catalog.model("sales_de").traffic == {2: 100}
    assert "1/contract.yaml:1: family: is missing" in catalog.invalid["sales_de", 1]


def test_a_new_version_waits_for_a_document_and_a_hint_says_what_to_write(publish: Publish, read: Read) -> None:
    publish("sales_de", 1)
    assert read().hints == {}
    publish("sales_de", 2)
    catalog = read()
    assert catalog.model("sales_de").traffic == {1: 100}
    assert catalog.hints == {
        "sales_de": "sales_de version 2: it answers only requests that name it, and version 1 all others. To change "
        "that, write a ServedModel: spec: {model: sales_de, traffic: [{version: 2, percent: 100}]}"
    }
    assert not catalog.faults(), "a version that waits is no fault"


def test_the_document_that_a_hint_asks_for_moves_the_traffic(publish: Publish, read: Read, documents: Path) -> None:
    for version in (1, 2):
        publish("sales_de", version)
    hint = read().hints["sales_de"]
    head = "apiVersion: triptych.dev/v1alpha1\nkind: ServedModel\nmetadata: {name: sales-de}\n"
    (documents / "sales-de.yaml").write_text(head + hint[hint.index("spec: ") :])
    catalog = read()
    assert (catalog.model("sales_de").traffic, catalog.hints) == ({2: 100}, {})


def test_a_new_version_takes_all_traffic_where_that_is_asked_for(publish: Publish, read: Read) -> None:
    for version in (2, 10):
        publish("sales_de", version)
    catalog = read(undeclared="highest")
    assert (catalog.model("sales_de").traffic, catalog.hints) == ({10: 100}, {})


def test_undeclared_models_can_be_kept_out(publish: Publish, read: Read) -> None:
    publish("sales_de")
    catalog = read(undeclared="none")
    assert catalog.models == {}
    assert catalog.invalid["sales_de", None] == "no ServedModel document"


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
    catalog = read()
    assert set(catalog.models) == {"sales_fr"}
    assert catalog.invalid["sales_de", None] == "its ServedModel document is refused"


def test_traffic_to_a_version_that_is_not_there_is_refused(publish: Publish, read: Read, documents: Path) -> None:
    publish("sales_de", 1)
    good = read()
    declare(documents, "sales_de", {1: 50, 4: 50})
    catalog = read(good)
    assert catalog.model("sales_de").traffic == {1: 100}
    assert any("model 'sales_de' has no valid version 4; it has 1" in fault for fault in catalog.faults())


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
    catalog = read()
    assert catalog.models == {}
    assert catalog.invalid["sales_de", None] == "no version in its traffic is valid"


def test_a_second_document_for_a_model_is_refused_and_the_first_stays_in_force(
    publish: Publish, read: Read, documents: Path
) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2)
    declare(documents, "sales_de", {1: 100}, file="b")
    first = read()
    declare(documents, "sales_de", {2: 100}, name="newcomer", file="a")
    catalog = read(first)
    assert catalog.model("sales_de").traffic == {1: 100}
    assert reasons(catalog) == {"a.yaml:1": [Reason.ROUTE_TAKEN], "b.yaml:1": []}
    assert any("a.yaml:1: a second document for" in fault and "b.yaml:1" in fault for fault in catalog.faults())


def test_a_second_document_of_one_name_is_refused_with_both_places(
    publish: Publish, read: Read, documents: Path
) -> None:
    publish("sales_de", 1)
    publish("sales_fr", 1)
    declare(documents, "sales_de", {1: 100}, file="a")
    declare(documents, "sales_fr", {1: 100}, name="sales-de", file="b")
    catalog = read()
    assert set(catalog.models) == {"sales_de"}
    assert any("b.yaml:1: a second document for" in fault and "a.yaml:1" in fault for fault in catalog.faults())


def test_a_document_that_is_deleted_leaves_its_model_to_the_next(publish: Publish, read: Read, documents: Path) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2)
    declare(documents, "sales_de", {1: 100}, file="a")
    declare(documents, "sales_de", {2: 100}, name="other", file="b")
    first = read()
    (documents / "a.yaml").unlink()
    assert read(first).model("sales_de").traffic == {2: 100}


def test_a_version_removed_under_traffic_stays_served_until_it_leaves_the_traffic(
    publish: Publish, read: Read, documents: Path
) -> None:
    publish("sales_de", 1)
    second = publish("sales_de", 2)
    declare(documents, "sales_de", {1: 60, 2: 40})
    good = read()
    shutil.rmtree(second)
    kept = read(good)
    assert kept.model("sales_de").traffic == {1: 60, 2: 40}
    assert kept.version("sales_de", 2).removed
    assert reasons(kept) == {"sales_de.yaml:1": [Reason.VERSION_REMOVED]}
    declare(documents, "sales_de", {1: 100})
    left = read(kept)
    assert set(left.model("sales_de").versions) == {1}
    assert reasons(left) == {"sales_de.yaml:1": []}
    declare(documents, "sales_de", {1: 50, 2: 50})
    refused = read(left)
    assert refused.model("sales_de").traffic == {1: 100}
    assert reasons(refused) == {"sales_de.yaml:1": [Reason.VERSION_REMOVED]}


def test_a_model_removed_under_traffic_stays_served_as_long_as_its_document_asks_for_it(
    publish: Publish, read: Read, documents: Path, models: Path
) -> None:
    publish("sales_de", 1)
    publish("sales_fr", 1)
    declare(documents, "sales_de", {1: 100})
    good = read()
    shutil.rmtree(models / "sales_de")
    shutil.rmtree(models / "sales_fr")
    kept = read(good)
    assert set(kept.models) == {"sales_de"}
    (documents / "sales_de.yaml").unlink()
    assert read(kept).models == {}


def test_a_version_that_breaks_after_it_was_published_keeps_its_traffic_and_says_why(
    publish: Publish, read: Read, documents: Path
) -> None:
    version = publish("sales_de", 1)
    declare(documents, "sales_de", {1: 100})
    good = read()
    (version / "model.onnx").unlink()
    catalog = read(good)
    assert catalog.model("sales_de").traffic == {1: 100}
    (problem,) = catalog.document_results[f"{documents}/sales_de.yaml:1"].problems
    assert problem[0] is Reason.VERSION_REMOVED
    assert "model.onnx: no such file" in problem[1]


def test_each_fault_of_a_document_has_its_reason(publish: Publish, read: Read, documents: Path) -> None:
    (publish("sales_de", 1) / "contract.yaml").write_text("kind: Contract")
    publish("sales_fr", 1)
    publish("sales_be", 1, route="FR")
    publish("sales_it", 1)
    (publish("sales_it", 2) / "model.onnx").unlink()
    for model in ("sales_de", "sales_fr", "sales_xx"):
        declare(documents, model, {1: 100})
    declare(documents, "sales_it", {1: 50, 2: 50})
    declare(documents, "sales_be", {1: 99})
    assert reasons(read()) == {
        "sales_be.yaml:1": [Reason.INVALID],
        "sales_de.yaml:1": [Reason.CONTRACT_INVALID],
        "sales_fr.yaml:1": [Reason.ROUTE_TAKEN],
        "sales_it.yaml:1": [Reason.CONTRACT_INVALID],
        "sales_xx.yaml:1": [Reason.UNKNOWN_MODEL],
    }


def alias_problems(catalog: Catalog) -> list[tuple[Reason, str]]:
    (result,) = catalog.document_results.values()
    return list(result.alias_problems)


def test_an_alias_of_a_version_that_is_not_there_is_named_and_holds_up_nothing(
    publish: Publish, read: Read, documents: Path
) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2)
    (publish("sales_de", 3) / "model.onnx").unlink()
    declare(documents, "sales_de", {1: 100}, aliases="dark: 2, broken: 3, gone: 9")
    catalog = read()
    assert (catalog.model("sales_de").traffic, reasons(catalog)) == ({1: 100}, {"sales_de.yaml:1": []})
    assert catalog.model("sales_de").aliases == {"broken": 3, "dark": 2, "gone": 9}
    (broken, gone) = alias_problems(catalog)
    assert broken[0] == Reason.CONTRACT_INVALID
    assert broken[1].startswith("spec.aliases: broken: version 3 is not valid: ")
    expected = "spec.aliases: gone: model 'sales_de' has no valid version 9; it has 1, 2"
    assert gone == (Reason.UNKNOWN_VERSION, expected)
    assert f"{documents}/sales_de.yaml:1: {expected}" in catalog.faults()
    publish("sales_de", 9)
    assert [reason for reason, _ in alias_problems(read(catalog))] == [Reason.CONTRACT_INVALID]


def test_an_alias_keeps_no_removed_version(publish: Publish, read: Read, documents: Path, models: Path) -> None:
    for version in (1, 2):
        publish("sales_de", version)
    declare(documents, "sales_de", {1: 100}, aliases="dark: 2, production: 1")
    before = read()
    assert not alias_problems(before)
    for version in (1, 2):
        shutil.rmtree(models / f"sales_de/{version}")
    after = read(before)
    assert set(after.model("sales_de").versions) == {1}, "it has traffic"
    assert [reason for reason, _ in alias_problems(after)] == [Reason.VERSION_REMOVED]
    assert reasons(after) == {"sales_de.yaml:1": [Reason.VERSION_REMOVED]}, "a version in traffic is named once"


@pytest.mark.parametrize(
    ("document", "aliases"),
    [({1: 50, 9: 50}, {"production": 2}), ({1: 99}, {"production": 1})],
    ids=["a missing version", "no sum of 100"],
)
def test_aliases_follow_a_document_that_can_be_read_whatever_its_traffic(
    publish: Publish, read: Read, documents: Path, document: dict[int, int], aliases: dict[str, int]
) -> None:
    for version in (1, 2):
        publish("sales_de", version)
    declare(documents, "sales_de", {1: 100}, aliases="production: 1")
    before = read()
    declare(documents, "sales_de", document, aliases="production: 2")
    after = read(before).model("sales_de")
    assert (after.traffic, after.aliases) == ({1: 100}, aliases)
    (documents / "sales_de.yaml").unlink()
    assert read(before).model("sales_de").aliases == {}


def in_kubernetes(model: str, shares: dict[int, int], **source: Any) -> Document:
    traffic = [{"version": version, "percent": percent} for version, percent in shares.items()]
    name = source.pop("name", model.replace("_", "-"))
    spec = {"model": model, "traffic": traffic}
    content = {"apiVersion": "triptych.dev/v1alpha1", "kind": "ServedModel", "metadata": {"name": name}, "spec": spec}
    return Document.of(DocumentSource(f"servedmodel/here/{name}", **source), ServedModel.model_validate(content))


def test_after_a_restart_the_traffic_that_was_in_force_stays_until_a_good_document_comes(
    publish: Publish, models: Path
) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2)
    scan = Scanner(models, None).scan(settle=False)
    assert scan is not None
    wrong = in_kubernetes("sales_de", {2: 50, 7: 50}, traffic={1: 90, 2: 10})
    catalog = build_catalog(scan.folders, [wrong], Catalog(), undeclared="none")
    assert catalog.model("sales_de").traffic == {1: 90, 2: 10}
    assert [reason for reason, _ in catalog.document_results["servedmodel/here/sales-de"].problems] == [
        "UnknownVersion"
    ]


@pytest.mark.parametrize("was_in_force", [True, False])
def test_after_a_restart_a_model_belongs_to_the_document_that_was_in_force_else_to_the_older(
    publish: Publish, models: Path, was_in_force: bool
) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2)
    scan = Scanner(models, None).scan(settle=False)
    assert scan is not None
    old = in_kubernetes("sales_de", {1: 100}, name="old", created="2026-01-01T00:00:00Z")
    new = in_kubernetes(
        "sales_de", {2: 100}, name="new", created="2026-02-01T00:00:00Z", traffic={2: 100} if was_in_force else {}
    )
    catalog = build_catalog(scan.folders, [new, old], Catalog(), undeclared="none")
    assert catalog.model("sales_de").document == f"servedmodel/here/{'new' if was_in_force else 'old'}"


def test_after_a_restart_the_aliases_that_were_in_force_stay_until_a_document_can_be_read(
    publish: Publish, models: Path
) -> None:
    publish("sales_de", 1)
    scan = Scanner(models, None).scan(settle=False)
    assert scan is not None
    source = DocumentSource("servedmodel/here/sales-de", traffic={1: 100}, aliases={"production": 1})
    catalog = build_catalog(scan.folders, [DocumentFault("sales_de", "wrong", source)], Catalog(), undeclared="none")
    assert catalog.model("sales_de").aliases == {"production": 1}


def test_a_document_for_no_model_is_noted_and_stops_nothing(publish: Publish, read: Read, documents: Path) -> None:
    publish("sales_de")
    declare(documents, "sales_xx", {1: 100})
    catalog = read()
    assert set(catalog.models) == {"sales_de"}
    assert any("the model repository has no 'sales_xx'" in fault for fault in catalog.faults())


def test_a_family_and_route_belong_to_the_model_that_had_them(publish: Publish, read: Read) -> None:
    publish("sales_de")
    before = read()
    publish("a_newcomer", route="DE")
    after = read(before)
    assert set(after.models) == {"sales_de"}
    assert after.invalid["a_newcomer", None] == "family 'sales', route 'DE' belongs to model 'sales_de'"


def test_versions_of_one_model_agree_on_family_and_route(publish: Publish, read: Read) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2, route="AT")
    catalog = read()
    assert catalog.model("sales_de").traffic == {1: 100}
    assert "route 'DE' as in its other versions" in catalog.invalid["sales_de", 2]


def test_what_is_missing_is_reported_with_what_exists(publish: Publish, read: Read) -> None:
    publish("sales_de")
    catalog = read()
    with pytest.raises(UnknownModel, match="unknown model or family 'sales_zz'; known: sales_de"):
        catalog.model("sales_zz")
    with pytest.raises(UnknownVersion, match="model 'sales_de' has no version '7'; known: 1"):
        catalog.version("sales_de", 7)
