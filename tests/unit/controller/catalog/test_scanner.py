"""Scans of folders: new versions are found, published ones stay, incomplete ones wait."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.catalog.digests import DIFFERS
from controller.catalog.entities import Edit, ScannedModel
from controller.catalog.scanner import Scan, Scanner
from tests.model_folders import model_file
from tests.onnx_files import external

Publish = Callable[..., Path]


@pytest.fixture
def scanner(models: Path, documents: Path) -> Scanner:
    return Scanner(models, documents)


def scan(scanner: Scanner, *, settle: bool = False) -> Scan:
    found = scanner.scan(settle=settle)
    assert found is not None
    return found


def folder(scanner: Scanner, *, settle: bool = False) -> ScannedModel:
    (found,) = scan(scanner, settle=settle).folders
    return found


def test_a_version_comes_with_its_contract_as_json_and_its_digest(scanner: Scanner, publish: Publish) -> None:
    publish("sales_de", 3)
    version = folder(scanner).versions[3]
    assert version.contract.route == "DE"
    assert version.canonical == version.contract.canonical_json()
    assert len(version.digest) == 64


def test_nothing_changed_is_nothing_read(scanner: Scanner, publish: Publish) -> None:
    publish("sales_de")
    scan(scanner)
    assert scanner.scan() is None


def test_something_new_is_read_once_it_no_longer_changes(scanner: Scanner, publish: Publish) -> None:
    publish("sales_de", 1)
    scan(scanner)
    new = publish("sales_de", 2)
    assert scanner.scan() is None
    (new / "model.onnx").write_bytes(model_file(b"still being copied"))
    assert scanner.scan() is None
    assert set(folder(scanner, settle=True).versions) == {1, 2}


def test_a_version_waits_for_weights_that_come_after_its_model_file(scanner: Scanner, publish: Publish) -> None:
    """The upload pauses longer than a scan: everything rests, and is not whole."""
    new = publish("sales_de", 1)
    (new / "model.onnx").write_bytes(external("weights.bin", length="16"))
    assert "weights are in 'weights.bin': no such file" in folder(scanner).invalid[1]
    (new / "weights.bin").write_bytes(bytes(8))
    assert "want at least 16 bytes, got 8" in folder(scanner).invalid[1]
    (new / "weights.bin").write_bytes(bytes(16))
    found = folder(scanner)
    assert (set(found.versions), found.invalid) == ({1}, {})
    (new / "weights.bin").write_bytes(b"changed".ljust(16))
    assert "weights.bin changed" in folder(scanner).versions[1].fault


def test_a_removed_model_is_reported_at_once_with_what_was_published(
    scanner: Scanner, publish: Publish, models: Path
) -> None:
    publish("sales_de")
    publish("sales_fr")
    scan(scanner)
    shutil.rmtree(models / "sales_de")
    german, french = scan(scanner, settle=True).folders
    assert (german.name, german.removed, german.present) == ("sales_de", True, {})
    assert german.versions[1].contract.route == "DE"
    assert not french.removed


def test_a_removed_version_is_reported_as_removed_until_it_is_put_back(scanner: Scanner, publish: Publish) -> None:
    publish("sales_de", 1)
    second = publish("sales_de", 2)
    before = folder(scanner).versions[2]
    kept = second.rename(second.parent.parent.parent / "kept")
    after = folder(scanner)
    assert (after.versions[2].removed, set(after.present), after.invalid) == (True, {1}, {})
    kept.rename(second)
    assert folder(scanner).versions[2] is before


def test_a_published_version_without_its_model_file_is_removed_and_says_why(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    scan(scanner)
    (version / "model.onnx").unlink()
    found = folder(scanner)
    assert found.versions[1].removed
    assert found.invalid[1].endswith("1/model.onnx: no such file")


def test_a_published_contract_never_changes(scanner: Scanner, publish: Publish, models: Path) -> None:
    publish("sales_de", description="first")
    first = folder(scanner).versions[1]
    publish("sales_de", description="second, and longer")
    changed = folder(scanner)
    assert changed.versions[1] is first
    (edit,) = changed.edits
    assert edit == Edit(1, f"{models}/sales_de/1/contract.yaml: {DIFFERS}")


def test_a_published_contract_that_breaks_stays_in_force(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    first = folder(scanner).versions[1]
    (version / "contract.yaml").write_text("[")
    changed = folder(scanner)
    assert changed.versions[1] is first
    assert changed.edits[0].text.endswith(f"1/contract.yaml: {DIFFERS} (as it is now, it cannot be read)")


def test_a_comment_in_a_published_contract_is_no_change(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    scan(scanner)
    with (version / "contract.yaml").open("a") as file:
        file.write("# a remark\n")
    assert folder(scanner).edits == ()


def test_a_version_that_never_was_valid_can_be_mended(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    (version / "model.onnx").unlink()
    assert folder(scanner).invalid[1].endswith("1/model.onnx: no such file")
    publish("sales_de", description="mended")
    assert folder(scanner).versions[1].contract.description == "mended"


def test_a_contract_against_the_configuration_breaks_the_version(
    scanner: Scanner, publish: Publish, models: Path
) -> None:
    publish("sales_de")
    config = models / "sales_de" / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: [ 2 ]", "dims: [ 3 ]"))
    invalid = folder(scanner).invalid[1]
    assert f"{models}/sales_de/config.pbtxt:4: input 'x' has dims" in invalid


def test_a_version_outside_of_the_version_policy_is_broken(scanner: Scanner, publish: Publish, models: Path) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2)
    config = models / "sales_de" / "config.pbtxt"
    config.write_text(config.read_text().replace("version_policy { all { } }", ""))
    found = folder(scanner)
    assert set(found.versions) == {2}
    assert "version_policy leaves version 1 out" in found.invalid[1]


@pytest.mark.parametrize(("config", "text"), [("name: [", "config.pbtxt:1:"), (None, "config.pbtxt:1: cannot be")])
def test_a_model_without_a_readable_configuration_is_a_problem_of_its_own(
    scanner: Scanner, publish: Publish, models: Path, config: str | None, text: str
) -> None:
    publish("sales_de")
    publish("sales_fr")
    path = models / "sales_de" / "config.pbtxt"
    path.unlink()
    if config is not None:
        path.write_text(config)
    bad, good = scan(scanner).folders
    assert text in bad.problem
    assert set(good.versions) == {1}


def test_what_triton_would_not_take_for_a_version_is_none(scanner: Scanner, publish: Publish, models: Path) -> None:
    publish("sales_de")
    for name in ("0", "01", "v2", ".3", "notes"):
        (models / "sales_de" / name).mkdir()
    (models / "sales_de" / "5").write_text("a file")
    (models / "README.md").write_text("no model")
    (models / ".hidden").mkdir()
    found = folder(scanner)
    assert (set(found.versions), found.invalid) == ({1}, {})


def test_documents_are_read_through_the_links_of_a_mounted_config_map(scanner: Scanner, documents: Path) -> None:
    data = documents / "..2026_01_01"
    data.mkdir()
    (data / "de.yaml").write_text("kind: ServedModel")
    os.symlink(data, documents / "..data")
    os.symlink(documents / "..data" / "de.yaml", documents / "de.yaml")
    faults = scan(scanner).documents
    assert faults
    assert {getattr(fault, "text", "").partition(":")[0] for fault in faults} == {f"{documents}/de.yaml"}


def test_a_folder_that_is_lost_is_an_error_and_no_empty_catalog(scanner: Scanner, models: Path) -> None:
    models.rmdir()
    with pytest.raises(FileNotFoundError):
        scanner.scan()
