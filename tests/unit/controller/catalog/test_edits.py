"""Edits of published contracts and configurations are ignored, and said where people look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.catalog.builder import build_catalog
from controller.catalog.digests import DIFFERS
from controller.catalog.entities import Catalog, Edit, Reason
from controller.catalog.scanner import Scanner
from controller.catalog.served_model import read_documents
from tests.model_folders import declare
from tests.unit.controller.catalog.published_files import change_weights, folder

Publish = Callable[..., Path]


def edit(config: Path, old: str = "max_batch_size: 4", new: str = "max_batch_size: 8") -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def build(scanner: Scanner, previous: Catalog, *documents: Path) -> Catalog:
    found = [item for path in documents for item in read_documents(path, path.parent, 1 << 16)]
    return build_catalog([folder(scanner)], found, previous, undeclared="lowest")


@pytest.mark.parametrize("text", ["name: [", None, 'name: "sales_de"\nbackend: "onnxruntime"\n'])
def test_a_broken_edit_of_a_configuration_keeps_the_last_good_one_in_service(
    scanner: Scanner, publish: Publish, models: Path, text: str | None
) -> None:
    publish("sales_de")
    before = build(scanner, Catalog())
    config = models / "sales_de" / "config.pbtxt"
    good = config.read_text()
    config.unlink() if text is None else config.write_text(text)
    after = build(scanner, before)
    model = after.model("sales_de")
    assert (model.traffic, model.versions[1].removed, after.invalid) == ({1: 100}, False, {})
    assert model.config == before.model("sales_de").config
    (fault,) = after.faults()
    assert fault.startswith(f"{config}: {DIFFERS}")
    config.write_text(good)
    assert build(scanner, after).faults() == set()


def test_a_good_edit_of_a_configuration_comes_with_a_new_version(
    scanner: Scanner, publish: Publish, models: Path
) -> None:
    publish("sales_de")
    folder(scanner)
    config = models / "sales_de" / "config.pbtxt"
    edit(config)
    found = folder(scanner)
    assert (found.config.max_batch_size, found.edits) == (4, (Edit(None, f"{config}: {DIFFERS}"),))
    publish("sales_de", 2)
    edit(config)
    found = folder(scanner)
    assert (found.config.max_batch_size, found.edits, set(found.present)) == (8, (), {1, 2})


def test_a_new_version_whose_configuration_breaks_a_published_one_is_refused_with_the_reason(
    scanner: Scanner, publish: Publish, models: Path
) -> None:
    publish("sales_de")
    folder(scanner)
    second = publish("sales_de", 2)
    config = models / "sales_de" / "config.pbtxt"
    for path, old, new in (
        (config, "dims: [ 2 ]", "dims: [ 3 ]"),
        (second / "contract.yaml", "shape: [-1, 2]", "shape: [-1, 3]"),
    ):
        edit(path, old, new)
    found = folder(scanner)
    assert set(found.present) == {1}
    assert found.invalid[2].endswith(f"\n{config}: {DIFFERS}")


def test_a_comment_in_a_configuration_is_no_edit(scanner: Scanner, publish: Publish, models: Path) -> None:
    publish("sales_de")
    folder(scanner)
    edit(models / "sales_de" / "config.pbtxt", "backend", "# a remark\nbackend")
    assert folder(scanner).edits == ()


def test_a_model_that_could_never_be_loaded_takes_another_configuration(
    scanner: Scanner, publish: Publish, models: Path
) -> None:
    publish("sales_de")
    folder(scanner)
    scanner.integrity.load_failed("sales_de", 1)
    edit(models / "sales_de" / "config.pbtxt")
    found = folder(scanner)
    assert (found.config.max_batch_size, found.edits) == (8, ())


def test_a_model_without_a_valid_version_takes_another_configuration(
    scanner: Scanner, publish: Publish, models: Path
) -> None:
    version = publish("sales_de")
    config = models / "sales_de" / "config.pbtxt"
    edit(config, "dims: [ 2 ]", "dims: [ 3 ]")
    assert set(folder(scanner).invalid) == {1}
    edit(config, "dims: [ 3 ]", "dims: [ 2 ]")
    assert set(folder(scanner).present) == {1}
    change_weights(version)
    assert set(folder(scanner).invalid) == {1}


def test_the_status_of_a_document_names_the_edits_and_its_traffic_stays(
    scanner: Scanner, publish: Publish, models: Path, documents: Path
) -> None:
    publish("sales_de")
    declare(documents, "sales_de", {1: 100})
    document = documents / "sales_de.yaml"
    before = build(scanner, Catalog(), document)
    edit(models / "sales_de" / "config.pbtxt")
    edit(models / "sales_de" / "1" / "contract.yaml", "description: first", "description: second")
    after = build(scanner, before, document)
    assert after.model("sales_de").traffic == {1: 100}
    (result,) = after.document_results.values()
    paths = ("config.pbtxt", "1/contract.yaml")
    assert result.problems == tuple((Reason.VERSION_CHANGED, f"{models}/sales_de/{path}: {DIFFERS}") for path in paths)


def test_an_edited_contract_says_by_which_names_it_may_be_asked_for(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    folder(scanner)
    edit(version / "contract.yaml", "route: DE", "route: AT")
    (found,) = folder(scanner).edits
    assert (found.family, found.route) == ("sales", "AT")
