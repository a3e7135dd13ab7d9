"""A version that a mirror has published is never replaced by other bytes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from controller.catalog.scanner import Scanner, ScanOptions
from controller.store.location import model_source
from controller.store.mirror import Mirror
from tests.fakes.memory_store import URI, ContentTaggedStore, InMemoryStore, contents, mirrored
from tests.model_folders import publish
from triptych.contract.verification.version import ValidationOptions

MODEL = "sales_de/1/model.onnx"


@pytest.fixture
def store(tmp_path: Path) -> InMemoryStore:
    store = ContentTaggedStore()
    store.upload(tmp_path / "scratch", "sales_de")
    store.put(MODEL, "y = 1x")
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirror" / "models"


def test_the_bytes_of_then_stay_and_the_change_is_named(store: InMemoryStore, folder: Path) -> None:
    """tensorflow/serving#1822"""
    mirror = mirrored(store, folder)
    store.put(MODEL, "y = 5x")  # of the same length
    store.put("sales_de/2/model.onnx", "another version")
    mirror.refresh()
    assert (folder / MODEL).read_text() == "y = 1x"
    assert (folder / "sales_de/2/model.onnx").read_text() == "another version"
    assert mirror.faults[MODEL].startswith(f"{URI}/{MODEL}: changed after its version was published")
    mirror.refresh()
    assert list(mirror.faults) == [MODEL]
    store.put(MODEL, "y = 1x")
    mirror.refresh()
    assert mirror.faults == {}


@pytest.mark.parametrize("name", [".DS_Store", "__pycache__/model.cpython-311.pyc", "below/.ipynb_checkpoints/a"])
def test_a_file_that_is_none_of_a_version_may_change(
    store: InMemoryStore, folder: Path, tmp_path: Path, name: str
) -> None:
    """It counts for no digest in a folder either, and a load was refused for it."""
    store.put(f"sales_de/1/{name}", "one")
    mirror, contracts = mirrored(store, folder), mirrored(store, tmp_path / "contracts", whole=False)
    store.put(f"sales_de/1/{name}", "two")
    assert contracts.changed_files("sales_de", 1) == ""
    mirror.refresh()
    assert mirror.faults == {}
    assert (folder / f"sales_de/1/{name}").read_text() == "two"
    store.put("sales_de/1/visible", "x")
    assert contracts.changed_files("sales_de", 1) == "visible is new"


def test_a_file_that_is_deleted_goes_and_does_not_come_back_as_another(store: InMemoryStore, folder: Path) -> None:
    mirror = mirrored(store, folder)
    store.delete(MODEL)
    mirror.refresh()
    assert not (folder / MODEL).exists()
    store.put(MODEL, "y = 5x")
    mirror.refresh()
    assert (list(mirror.faults), (folder / MODEL).exists()) == ([MODEL], False)
    store.put(MODEL, "y = 1x")
    mirror.refresh()
    assert (mirror.faults, (folder / MODEL).read_text()) == ({}, "y = 1x")


@pytest.mark.parametrize("same_time", [True, False])
def test_a_restart_knows_what_was_published(store: InMemoryStore, folder: Path, same_time: bool) -> None:
    mirrored(store, folder).close()
    before = store.list()[MODEL]
    store.put(MODEL, "y = 5x")
    if same_time:  # as in a store whose times are whole seconds
        times = (before.modified_ns,) * 2
        os.utime(folder / MODEL, ns=times)
    mirror = mirrored(store, folder)
    assert ((folder / MODEL).read_text(), list(mirror.faults)) == ("y = 1x", [MODEL])


def test_a_file_that_was_damaged_here_comes_again(store: InMemoryStore, folder: Path) -> None:
    mirrored(store, folder).close()
    (folder / MODEL).write_text("damaged")
    mirror = mirrored(store, folder)
    assert ((folder / MODEL).read_text(), mirror.faults) == ("y = 1x", {})


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": [1, 2]}', "\0"])
def test_published_objects_that_cannot_be_read_are_logged_and_recorded_again(
    store: InMemoryStore, folder: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    mirrored(store, folder).close()
    published = folder.parent / ".models.mirror" / "published.json"
    published.write_text(text)
    mirrored(store, folder)
    assert MODEL in json.loads(published.read_text())
    assert "published objects of the mirror unreadable" in caplog.text


def test_what_comes_later_is_added_and_what_is_published_anew_is_replaced_as_a_whole(
    store: InMemoryStore, folder: Path
) -> None:
    mirror = mirrored(store, folder)
    store.put("sales_de/1/weights.bin", "late")
    mirror.refresh()
    assert (folder / "sales_de/1/weights.bin").read_text() == "late"
    store.put(MODEL, "y = 5x")
    store.put("sales_de/1/contract.yaml", "another contract")
    mirror.refresh()
    assert (mirror.faults, contents(folder)) == ({}, store.contents())


def test_an_upload_without_a_contract_yet_may_change(store: InMemoryStore, folder: Path) -> None:
    mirror = mirrored(store, folder)
    for text in ("half", "whole"):
        store.put("sales_de/2/onnx/model.onnx", text)
        mirror.refresh()
        assert (folder / "sales_de/2/onnx/model.onnx").read_text() == text


def test_the_same_content_uploaded_once_more_is_no_change(store: InMemoryStore, folder: Path) -> None:
    mirror = mirrored(store, folder)
    before = store.list()[MODEL]
    store.put(MODEL, "y = 1x")
    store.read_paths.clear()
    assert store.list()[MODEL].modified_ns > before.modified_ns
    assert not mirror.refresh()
    assert (store.read_paths, mirror.faults) == ([], {})


def recorded_digests(text: str, **files: str) -> str:
    lines = [f"  {json.dumps(path.replace('__', '/'))}: sha256:{digest}" for path, digest in files.items()]
    return "\n".join([text.rstrip(), "files:", *lines, ""])


def test_a_version_whose_files_are_not_as_its_contract_states_does_not_come(
    store: InMemoryStore, folder: Path, tmp_path: Path
) -> None:
    good = hashlib.sha256(b"y = 1x").hexdigest()
    contract = store.contents()["sales_de/1/contract.yaml"].decode()
    for version, model in ((2, "y = 1x"), (3, "y = 5x")):
        store.put(f"sales_de/{version}/contract.yaml", recorded_digests(contract, **{"onnx__model.bin": good}))
        store.put(f"sales_de/{version}/onnx/model.bin", model)
    store.put("sales_de/4/contract.yaml", recorded_digests(contract, **{"onnx__model.bin": good}))
    mirror = mirrored(store, folder)
    assert sorted(path.name for path in (folder / "sales_de").iterdir()) == ["1", "2", "config.pbtxt"]
    assert list(mirror.faults) == ["sales_de/3/contract.yaml", "sales_de/4/contract.yaml"]
    assert f"with sha256:{good}, got sha256:" in mirror.faults["sales_de/3/contract.yaml"]
    assert "onnx/model.bin, which is not there yet" in mirror.faults["sales_de/4/contract.yaml"]
    store.put("sales_de/4/onnx/model.bin", "y = 1x")
    mirror.refresh()
    assert (folder / "sales_de/4/onnx/model.bin").read_text() == "y = 1x"


def test_the_controller_sees_a_change_in_the_store_by_its_tag_and_asks_it_before_a_load(tmp_path: Path) -> None:
    there = tmp_path / "there"
    publish(there, "sales_de")
    source = model_source(f"file://{there}", tmp_path / "here")
    source.refresh()
    scanner = Scanner(
        source.folder,
        None,
        ScanOptions(ValidationOptions(has_content=False), digest_of=source.digest_of or (lambda path, file: "")),
    )
    assert scanner.scan(settle=False) is not None
    assert (source.changed_files("sales_de", 1), scanner.integrity.check("sales_de", 1, False)) == ("", "")
    file = there / MODEL
    file.write_bytes(b"five")
    os.utime(file, (1, 1))
    assert source.changed_files("sales_de", 1) == "model.onnx changed"
    source.refresh()
    assert source.changed_files("sales_de", 1) == ""
    assert "(model.onnx changed; what is loaded" in scanner.integrity.check("sales_de", 1, False)
    there.rename(tmp_path / "away")
    assert source.changed_files("sales_de", 1) == "", "a store that is away takes nothing away"


def test_a_mirror_of_contracts_follows_every_change(store: InMemoryStore, folder: Path) -> None:
    mirror = Mirror(store, folder, whole=False)
    mirror.refresh()
    before = mirror.digest(MODEL)
    store.put(MODEL, "y = 5x")
    assert mirror.changed_files("sales_de", 1) == "model.onnx changed"
    mirror.refresh()
    assert before.startswith("etag:")
    assert mirror.digest(MODEL) not in ("", before)
    assert mirror.changed_files("sales_de", 1) == ""


def test_the_controller_does_not_compare_digests_of_files_that_it_never_read(
    store: InMemoryStore, folder: Path
) -> None:
    contract = store.contents()["sales_de/1/contract.yaml"].decode()
    digest = hashlib.sha256(b"y = 1x").hexdigest()
    store.put("sales_de/2/contract.yaml", recorded_digests(contract, **{"model.onnx": digest}))
    store.put("sales_de/2/model.onnx", "y = 1x")
    store.put("sales_de/3/contract.yaml", recorded_digests(contract, **{"model.onnx": digest, "more.bin": digest}))
    store.put("sales_de/3/model.onnx", "y = 1x")
    mirrored(store, folder, whole=False)
    scan = Scanner(folder, None, ScanOptions(ValidationOptions(has_content=False))).scan(settle=False)
    assert scan is not None
    (model,) = scan.folders
    assert [*model.present] == [1, 2]
    assert "more.bin: no such file, but the contract states" in model.invalid[3]
