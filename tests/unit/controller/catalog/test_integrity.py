"""Files of a published version never change: a changed version is left out until its published files are back.

tensorflow/serving#1822: weights overwritten in place, after a reload other answers as the same version.
tensorflow/serving#1086: a version is published before its files are whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from controller.catalog.digests import are_comparable, combined_digest, difference
from controller.catalog.entities import Catalog, Reason, Version
from controller.catalog.integrity import stat_digest
from controller.catalog.scanner import Scanner, ScanOptions
from controller.catalog.served_model import Document, DocumentSource, RecordedDigests, ServedModel
from controller.catalog.watcher import CatalogWatcher
from controller.kubernetes.status import dated, status_of
from controller.metrics import ControllerMetrics
from tests.fakes.api_server import spec
from tests.model_folders import declare, model_file
from tests.unit.controller.catalog.published_files import add, catalog_of, change_weights, folder, overwrite
from triptych.contract.verification.tree import sha256_of

Publish = Callable[..., Path]
DIGEST = "controller.catalog.integrity.sha256_of"


# The digests


def test_a_digest_is_of_all_files_and_independent_of_their_order() -> None:
    files = {"a": "sha256:1", "b": "sha256:2"}
    assert combined_digest(files) == combined_digest(dict(reversed(files.items())))
    assert combined_digest(files) != combined_digest({"a": "sha256:2", "b": "sha256:1"})
    assert combined_digest({}) == ""
    assert not are_comparable(combined_digest(files), combined_digest({"a": "stat:1-2", "b": "stat:1-2"}))


def test_a_difference_names_a_few_files_and_counts_the_others() -> None:
    published = dict.fromkeys("abcde", "sha256:1")
    assert difference(published, published) == ""
    assert difference({"a": "sha256:1"}, {"a": "sha256:2"}) == "a changed"
    assert difference({"a": "sha256:1"}, {"b": "sha256:1"}) == "a is gone, b is new"
    assert difference({"a": "sha256:1"}, {"a": "etag:x"}) == ""
    assert difference(published, {}) == "a is gone, b is gone, c is gone and 2 more"


# Published when it is whole


def test_a_version_is_published_when_no_file_below_it_changes_any_more(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    config = version.parent / "config.pbtxt"
    config.write_text(config.read_text() + 'default_model_filename: "onnx/model.onnx"')
    (version / "model.onnx").unlink()
    (version / "onnx" / "weights").mkdir(parents=True)
    model, data = version / "onnx" / "model.onnx", version / "onnx" / "weights" / "model.onnx.data"
    model.write_bytes(model_file(b"m" * 1000))
    for length in (1000, 2000, 3000):
        data.write_bytes(b"d" * length)
        assert scanner.scan() is None
    assert folder(scanner, settle=True).versions[1].file_bytes == len(model_file(b"m" * 1000)) + 3000


def test_what_is_written_while_a_process_starts_is_recorded_when_it_no_longer_changes(
    scanner: Scanner, publish: Publish
) -> None:
    model = publish("sales_de") / "model.onnx"
    model.write_bytes(model_file(b"half"))
    found = scanner.scan(settle=False, young_s=60)
    assert found is not None
    assert found.folders[0].versions[1].files is None
    model.write_bytes(model_file(b"half and half"))
    assert scanner.scan() is None
    version = folder(scanner, settle=True).versions[1]
    assert (version.fault, version.file_bytes, len(version.files or {})) == ("", len(model_file(b"half and half")), 1)
    assert scanner.scan() is None


def test_a_file_that_is_written_while_it_is_read_is_read_again(
    scanner: Scanner, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = publish("sales_de") / "model.onnx"

    def slowly(path: str) -> str:
        digest = sha256_of(path)
        model.write_bytes(model_file(b"more"))
        return digest

    monkeypatch.setattr(DIGEST, slowly)
    assert folder(scanner).versions == {}
    monkeypatch.undo()
    assert scanner.scan() is None
    assert set(folder(scanner, settle=True).present) == {1}


# Changed


def change_data(version: Path) -> str:
    overwrite(version / "deep" / "model.onnx.data", b"DATA")
    return "deep/model.onnx.data changed"


def replace_file(version: Path) -> str:
    (version / "new").write_bytes(model_file(b"ONNX"))
    os.replace(version / "new", version / "model.onnx")
    return "model.onnx changed"


def take_away(version: Path) -> str:
    (version / "deep" / "model.onnx.data").unlink()
    return "deep/model.onnx.data is gone"


def turn_into_a_link(version: Path) -> str:
    (version / "deep" / "other").write_bytes(b"else")
    (version / "model.onnx").unlink()
    (version / "model.onnx").symlink_to("deep/other")
    return "deep/other is new, model.onnx changed"


CHANGES = [change_weights, change_data, replace_file, take_away, add, turn_into_a_link]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_version_is_not_loaded_and_is_whole_again_with_its_files(
    scanner: Scanner, publish: Publish, tmp_path: Path, change: Callable[[Path], str]
) -> None:
    version = publish("sales_de")
    (version / "deep").mkdir()
    (version / "deep" / "model.onnx.data").write_bytes(b"data")
    shutil.copytree(version, tmp_path / "kept")
    before = folder(scanner).versions[1]
    what = change(version)
    assert what in scanner.integrity.check("sales_de", 1, False)
    changed = folder(scanner)
    assert changed.versions[1].removed
    assert changed.versions[1].canonical == before.canonical
    assert changed.versions[1].files_digest == before.files_digest
    assert changed.versions[1].fault == (
        "version 1 differs from what was published, ignored: publish a new version, or put the published files back "
        f"({what}; what is loaded stays served)"
    )
    assert what in changed.invalid[1]
    shutil.rmtree(version)
    shutil.copytree(tmp_path / "kept", version)
    assert folder(scanner).versions[1] is before
    assert scanner.integrity.check("sales_de", 1, False) == ""


def test_a_touched_or_copied_version_is_no_change_and_an_unchanged_file_is_read_once(
    scanner: Scanner, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish("sales_de")
    (version / "large").write_bytes(b"x" * 1000)
    reads: list[str] = []

    def counted(path: str) -> str:
        reads.append(Path(path).name)
        return sha256_of(path)

    monkeypatch.setattr(DIGEST, counted)
    before = folder(scanner).versions[1]
    os.utime(version / "model.onnx")
    (version / ".DS_Store").touch()
    (version / "__pycache__").mkdir()
    (version / "__pycache__" / "model.pyc").touch()
    assert folder(scanner).versions[1] is before
    assert scanner.integrity.check("sales_de", 1, False) == ""
    assert sorted(reads) == ["large", "model.onnx", "model.onnx"]


def test_without_reading_a_change_shows_by_size_and_time(models: Path, publish: Publish) -> None:
    scanner = Scanner(models, None, ScanOptions(digest_of=stat_digest))
    version = publish("sales_de")
    assert folder(scanner).versions[1].files_digest.startswith("stat:")
    (version / "model.onnx").write_bytes(model_file(b"longer"))
    assert "model.onnx changed" in folder(scanner).versions[1].fault


def test_an_undeclared_model_is_served_on_by_the_version_that_changed(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de", 1)
    publish("sales_de", 2)
    good = catalog_of(scanner)
    change_weights(version)
    catalog = catalog_of(scanner, good)
    assert catalog.model("sales_de").traffic == {1: 100}
    assert catalog.model("sales_de").versions[1].removed


async def test_a_document_says_that_its_version_changed_and_its_traffic_stays(
    models: Path, documents: Path, publish: Publish
) -> None:
    version = publish("sales_de")
    declare(documents, "sales_de", {1: 100})
    reported: list[Catalog] = []
    registry = CollectorRegistry()
    scanner = Scanner(models, documents)
    watcher = CatalogWatcher(scanner, ControllerMetrics(registry), reported.append, undeclared="lowest")
    await watcher.start()
    for _ in range(3):  # what was written this moment is recorded once it rests
        await watcher.scan()
    change_weights(version)
    for _ in range(3):
        await watcher.scan()
    assert reported[-1].model("sales_de").traffic == {1: 100}
    (problem,) = reported[-1].document_results[f"{documents}/sales_de.yaml:1"].problems
    assert problem[0] is Reason.VERSION_CHANGED
    assert problem[1].startswith("version 1 differs from what was published, ignored: publish a new version, ")
    assert "(model.onnx changed; " in problem[1]
    assert registry.get_sample_value("triptych_versions_changed") == 1


# Over a restart


def document(recorded_digests: dict[int, RecordedDigests], shares: dict[int, int]) -> Document:
    head = {"apiVersion": "triptych.dev/v1alpha1", "kind": "ServedModel", "metadata": {"name": "sales-de"}}
    served = ServedModel.model_validate(head | {"spec": spec("sales_de", shares)})
    return Document.of(
        DocumentSource("servedmodel/here/sales-de", traffic=shares, recorded_digests=recorded_digests), served
    )


def digests_now(version: Version) -> dict[int, RecordedDigests]:
    return {version.number: RecordedDigests(version.files_digest, version.source_digest)}


def test_files_that_changed_while_nobody_looked_are_found_by_the_status(models: Path, publish: Publish) -> None:
    version = publish("sales_de")
    first = catalog_of(Scanner(models, None))
    recorded_digests = digests_now(first.model("sales_de").versions[1])
    same = catalog_of(Scanner(models, None), None, document(recorded_digests, {1: 100}))
    assert same.document_results["servedmodel/here/sales-de"].problems == ()
    change_weights(version)
    catalog = catalog_of(Scanner(models, None), None, document(recorded_digests, {1: 100}))
    found = catalog.model("sales_de").versions[1]
    assert (found.removed, catalog.model("sales_de").traffic) == (True, {1: 100})
    assert "its files changed before this process started" in found.fault
    (problem,) = catalog.document_results["servedmodel/here/sales-de"].problems
    assert problem[0] is Reason.VERSION_CHANGED
    overwrite(version / "model.onnx", model_file(b"onnx"))
    again = catalog_of(Scanner(models, None), None, document(recorded_digests, {1: 100}))
    assert again.document_results["servedmodel/here/sales-de"].problems == ()


def test_a_contract_that_changed_while_nobody_looked_takes_the_version_out(models: Path, publish: Publish) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2, description="first")
    recorded_digests = digests_now(catalog_of(Scanner(models, None)).model("sales_de").versions[2])
    publish("sales_de", 2, description="second")
    catalog = catalog_of(Scanner(models, None), None, document(recorded_digests, {1: 50, 2: 50}))
    assert catalog.model("sales_de").traffic == {1: 100}
    assert "contract.yaml changed before this process started" in catalog.invalid["sales_de", 2]


def test_digests_of_another_kind_are_not_compared(models: Path, publish: Publish) -> None:
    publish("sales_de")
    catalog = catalog_of(Scanner(models, None), None, document({1: RecordedDigests("stat:00", "")}, {1: 100}))
    assert catalog.document_results["servedmodel/here/sales-de"].problems == ()


def test_the_status_keeps_what_was_written_down_first(models: Path, publish: Publish) -> None:
    version = publish("sales_de")
    scanner = Scanner(models, None)
    first = catalog_of(scanner, None, document({}, {1: 100}))
    where = "servedmodel/here/sales-de"
    status = dated(status_of(first.document_results[where], first, None), {}, "now")
    (entry,) = status["versions"]
    files_digest = first.model("sales_de").versions[1].files_digest
    assert (entry["files"], entry["contract"][:7]) == (files_digest, "sha256:")
    change_weights(version)
    recorded_digests = digests_now(first.model("sales_de").versions[1])
    after = catalog_of(Scanner(models, None), None, document(recorded_digests, {1: 100}))
    (entry,) = status_of(after.document_results[where], after, None)["versions"]
    assert entry["files"] == files_digest
    unknown = status_of(first.document_results[where], Catalog(), None)
    assert [each["files"] for each in unknown["versions"]] == [""]
    assert dated(unknown, status, "now")["versions"] == status["versions"]


def test_a_digest_that_cannot_be_computed_names_the_file(
    scanner: Scanner, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish("sales_de")

    def refuse(path: str) -> str:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(DIGEST, refuse)
    assert folder(scanner).invalid[1] == f"{version}/model.onnx: cannot be read: Input/output error"
