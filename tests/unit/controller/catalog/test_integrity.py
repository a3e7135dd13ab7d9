"""A published version never changes: other files are not loaded under its name, and the published ones make it whole.

tensorflow/serving#1822: weights overwritten in place, after a reload other answers as the same version.
tensorflow/serving#1086: a version is published before its files are whole.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from controller.catalog.builder import build_catalog
from controller.catalog.digests import are_comparable, combined_digest, difference
from controller.catalog.entities import Catalog, Reason, ScannedModel, Version
from controller.catalog.integrity import stat_digest
from controller.catalog.scanner import Scanner, ScanOptions
from controller.catalog.served_model import Document, DocumentSource, RecordedDigests, ServedModel
from controller.catalog.watcher import CatalogWatcher
from controller.kubernetes.status import dated, status_of
from controller.metrics import ControllerMetrics
from tests.fakes.api_server import spec
from tests.fakes.triton import FakeTriton
from tests.model_folders import declare, model_file
from tests.onnx_files import linear
from tests.unit.controller.placement.harness import PlacementHarness
from triptych.contract.verification.tree import sha256_of
from triptych.errors import LoadFailed
from triptych_cli.__main__ import main

Publish = Callable[..., Path]
DIGEST = "controller.catalog.integrity.sha256_of"


@pytest.fixture
def scanner(models: Path) -> Scanner:
    return Scanner(models, None)


def folder(scanner: Scanner, *, settle: bool = False) -> ScannedModel:
    found = scanner.scan(settle=settle)
    assert found is not None
    return found.folders[0]


def overwrite(path: Path, content: bytes) -> None:
    """In place, with the size, the time and the inode that it had."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def catalog_of(scanner: Scanner, previous: Catalog | None = None, *documents: Document) -> Catalog:
    return build_catalog([folder(scanner)], documents, previous or Catalog(), serve_undeclared=True)


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


def test_a_version_is_published_when_everything_below_it_rests(scanner: Scanner, publish: Publish) -> None:
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


def test_what_is_written_while_a_process_starts_is_recorded_when_it_rests(scanner: Scanner, publish: Publish) -> None:
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


def change_weights(version: Path) -> str:
    overwrite(version / "model.onnx", model_file(b"ONNX"))
    return "model.onnx changed"


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


def add(version: Path) -> str:
    (version / "deep" / "code.py").write_text("import os")
    return "deep/code.py is new"


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
    assert changed.versions[1].contract is before.contract
    assert changed.versions[1].files_digest == before.files_digest
    assert changed.versions[1].fault == (
        f"version 1 is not what was published: {what}; what is loaded stays served; put the published files "
        "back, or publish the new ones as a new version"
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
    publish("sales_de", 1)
    version = publish("sales_de", 2)
    good = catalog_of(scanner)
    change_weights(version)
    catalog = catalog_of(scanner, good)
    assert catalog.model("sales_de").traffic == {2: 100}
    assert catalog.model("sales_de").versions[2].removed


async def test_a_document_says_that_its_version_changed_and_its_traffic_stays(
    models: Path, documents: Path, publish: Publish
) -> None:
    version = publish("sales_de")
    declare(documents, "sales_de", {1: 100})
    reported: list[Catalog] = []
    registry = CollectorRegistry()
    scanner = Scanner(models, documents)
    watcher = CatalogWatcher(scanner, ControllerMetrics(registry), reported.append, serve_undeclared=True)
    await watcher.start()
    for _ in range(3):  # what was written this moment is recorded once it rests
        await watcher.scan()
    change_weights(version)
    for _ in range(3):
        await watcher.scan()
    assert reported[-1].model("sales_de").traffic == {1: 100}
    (problem,) = reported[-1].document_results[f"{documents}/sales_de.yaml:1"].problems
    assert problem[0] is Reason.VERSION_CHANGED
    assert problem[1].startswith("version 1 is not what was published: model.onnx changed; ")
    assert registry.get_sample_value("triptych_versions_changed") == 1


# Loads


def harness(scanner: Scanner, triton: FakeTriton, catalog: Catalog, **limits: float) -> PlacementHarness:
    made = PlacementHarness(catalog, triton, **limits)
    made.placement.versions.seals = scanner.integrity
    return made


async def test_a_load_of_a_changed_version_is_refused_before_triton_is_asked(
    scanner: Scanner, publish: Publish
) -> None:
    version = publish("sales_de")
    catalog, triton = catalog_of(scanner), FakeTriton()
    change_weights(version)
    with pytest.raises(LoadFailed, match=r"not what was published: model.onnx changed"):
        await harness(scanner, triton, catalog).ensure()
    assert triton.loads == []


async def test_a_version_that_changes_while_it_is_loaded_is_unloaded_again(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    catalog, triton = catalog_of(scanner), FakeTriton()
    placed_harness = harness(scanner, triton, catalog)
    triton.finish.clear()
    asked = placed_harness.ask()
    await triton.started.wait()
    change_weights(version)
    triton.finish.set()
    with pytest.raises(LoadFailed, match=r"not what was published: model.onnx changed"):
        await asked
    await placed_harness.settle()
    assert triton.loaded == set()


async def test_what_was_loaded_before_the_digests_is_what_was_published(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    found = scanner.scan(settle=False, young_s=60)
    assert found is not None
    catalog = build_catalog(found.folders, [], Catalog(), serve_undeclared=True)
    await harness(scanner, FakeTriton(), catalog).ensure()
    (version / "model.onnx").write_bytes(model_file(b"other weights"))
    assert scanner.scan() is None
    assert "model.onnx changed" in folder(scanner, settle=True).versions[1].fault


async def test_a_failed_load_records_no_digests(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    (version / "model.onnx").write_bytes(model_file(b"half"))
    found = scanner.scan(settle=False, young_s=60)
    assert found is not None
    catalog, triton = build_catalog(found.folders, [], Catalog(), serve_undeclared=True), FakeTriton()
    triton.refuses["sales_de", 1] = "no model"
    with pytest.raises(LoadFailed):
        await harness(scanner, triton, catalog).ensure()
    (version / "model.onnx").write_bytes(model_file(b"half and half"))
    assert scanner.scan() is None
    assert folder(scanner, settle=True).versions[1].fault == ""


@pytest.mark.parametrize(("mends", "loads"), [(False, 1), (True, 2)])
async def test_a_scan_that_only_records_digests_does_not_forget_a_failed_load(
    scanner: Scanner, publish: Publish, mends: bool, loads: int
) -> None:
    version = publish("sales_de")
    found = scanner.scan(settle=False, young_s=60)
    assert found is not None
    catalog, triton = build_catalog(found.folders, [], Catalog(), serve_undeclared=True), FakeTriton()
    assert catalog.model("sales_de").versions[1].files is None
    placed_harness = harness(scanner, triton, catalog)
    triton.refuses["sales_de", 1] = "no model"
    with pytest.raises(LoadFailed):
        await placed_harness.ensure()
    if mends:
        (version / "model.onnx").write_bytes(model_file(b"other weights, and more"))
    recorded_digests = catalog
    while recorded_digests.model("sales_de").versions[1].files is None:
        observed = scanner.scan(settle=True)
        recorded_digests = (
            build_catalog(observed.folders, [], recorded_digests, serve_undeclared=True)
            if observed
            else recorded_digests
        )
    placed_harness.placement.set_catalog(recorded_digests)
    with pytest.raises(LoadFailed):
        await placed_harness.ensure()
    assert triton.loads == [("sales_de", 1)] * loads


async def test_a_version_that_never_was_loaded_may_be_mended_in_place(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    catalog, triton = catalog_of(scanner), FakeTriton()
    placed_harness = harness(scanner, triton, catalog)
    triton.refuses["sales_de", 1] = "no model"
    with pytest.raises(LoadFailed):
        await placed_harness.ensure()
    change_weights(version)
    catalog = catalog_of(scanner, catalog)
    assert catalog.model("sales_de").versions[1].fault == ""
    triton.refuses.clear()
    placed_harness.placement.set_catalog(catalog)
    assert await placed_harness.ensure()
    overwrite(version / "model.onnx", model_file(b"onnx"))
    assert "model.onnx changed" in folder(scanner).versions[1].fault


async def test_a_version_that_was_loaded_once_may_not(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    catalog, triton = catalog_of(scanner), FakeTriton()
    placed_harness = harness(scanner, triton, catalog)
    await placed_harness.ensure()
    triton.refuses["sales_de", 1] = "no memory"
    triton.restart()
    with pytest.raises(LoadFailed, match="no memory"):
        await placed_harness.ensure()
    change_weights(version)
    assert "model.onnx changed" in folder(scanner).versions[1].fault


async def test_a_load_of_another_version_does_not_make_triton_read_the_changed_one(
    scanner: Scanner, publish: Publish
) -> None:
    """Triton reads every version that it is told to keep again once one of their files was written."""
    first = publish("sales_de", 1)
    publish("sales_de", 2)
    catalog, triton = catalog_of(scanner), FakeTriton()
    placed_harness = harness(scanner, triton, catalog)
    await placed_harness.ensure(version=1)
    change_weights(first)
    with pytest.raises(LoadFailed, match=r"version 1 is not what was published"):
        await placed_harness.ensure(version=2)
    assert triton.loads == [("sales_de", 1)]
    assert placed_harness.placed == {"sales_de": {1: ("triton:8001",)}}


async def test_an_unload_of_another_version_does_not_either(scanner: Scanner, publish: Publish) -> None:
    first = publish("sales_de", 1)
    publish("sales_de", 2)
    catalog, triton = catalog_of(scanner), FakeTriton()
    placed_harness = harness(scanner, triton, catalog)
    await placed_harness.ensure(version=1)
    await placed_harness.ensure(version=2)
    change_weights(first)
    await placed_harness.unload("sales_de", 2, "idle for 1 s")
    assert triton.unloads == []
    placed_harness.placement.set_catalog(catalog_of(scanner, catalog))
    assert placed_harness.eviction_reason("sales_de", 2, now_s=1e9) == ""


async def test_nor_does_one_beside_a_version_that_has_not_passed_its_warm_up(
    scanner: Scanner, publish: Publish
) -> None:
    """Triton has it, though no request is sent to it, and would read its changed files."""
    first = publish("sales_de", 1)
    publish("sales_de", 2)
    catalog, triton = catalog_of(scanner), FakeTriton()
    placed_harness = harness(scanner, triton, catalog, warm_up=True, idle_ttl_s=100)
    await placed_harness.ensure(version=2)
    triton.answering.clear()
    caller = placed_harness.ask(version=1)
    while ("sales_de", 1) not in triton.loaded:
        await asyncio.sleep(0)
    await placed_harness.predictor().refresh()
    assert placed_harness.predictor().not_warm == {("sales_de", 1)}
    assert placed_harness.eviction_reason("sales_de", 2, now_s=1e9) == "idle for 100 s"
    change_weights(first)
    placed_harness.placement.set_catalog(catalog_of(scanner, catalog))
    assert placed_harness.eviction_reason("sales_de", 2, now_s=1e9) == ""
    triton.answering.set()
    await asyncio.gather(caller, return_exceptions=True)


async def test_a_version_whose_folder_is_gone_does_not_keep_another_from_coming(
    scanner: Scanner, publish: Publish
) -> None:
    first = publish("sales_de", 1)
    publish("sales_de", 2)
    catalog, triton = catalog_of(scanner), FakeTriton()
    placed_harness = harness(scanner, triton, catalog)
    await placed_harness.ensure(version=1)
    shutil.rmtree(first)
    assert await placed_harness.ensure(version=2)


# Over a restart


def document(recorded_digests: dict[int, RecordedDigests], shares: dict[int, int]) -> Document:
    head = {"apiVersion": "triptych.dev/v1alpha1", "kind": "ServedModel", "metadata": {"name": "sales-de"}}
    served = ServedModel.model_validate(head | {"spec": spec("sales_de", shares)})
    return Document(
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


# Digests that the contract states


def state(version: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Puts the digests at the end of the contract, as the docs say."""
    assert main(["digests", str(version)]) == 0
    printed = capsys.readouterr().out
    contract = version / "contract.yaml"
    contract.write_text(contract.read_text() + printed)
    return printed


def test_digests_that_a_contract_states_are_checked_at_publication(
    models: Path, publish: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    version = publish("sales_de")
    (version / "model.onnx").write_bytes(linear())
    (version / "deep").mkdir()
    (version / "deep" / "a b: c").write_bytes(b"data")
    printed = state(version, capsys)
    assert '"deep/a b: c": sha256:' in printed
    assert set(folder(Scanner(models, None)).versions) == {1}
    assert main(["verify", str(models)]) == 0
    capsys.readouterr()
    for change in (change_weights, add, take_away_named):
        change(version)
        invalid = folder(Scanner(models, None, ScanOptions(digest_of=stat_digest))).invalid[1].splitlines()
        assert main(["verify", str(models)]) == 1
        printed = capsys.readouterr().out
        assert invalid
        assert all(line in printed for line in invalid)


def take_away_named(version: Path) -> None:
    (version / "deep" / "a b: c").unlink()


@pytest.mark.parametrize(
    "text", ["files: {}", "files: {model.onnx: sha256:12}", "files: {model.onnx: md5}", "files: []"]
)
def test_digests_that_are_none_are_refused(models: Path, publish: Publish, text: str) -> None:
    version = publish("sales_de")
    with (version / "contract.yaml").open("a") as file:
        file.write(text)
    assert "files" in folder(Scanner(models, None)).invalid[1]


def test_digests_of_a_folder_that_is_not_there_are_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["digests", str(tmp_path / "none")]) == 1
    assert "cannot be read: No such file or directory" in capsys.readouterr().err


def test_a_digest_that_cannot_be_computed_names_the_file(
    scanner: Scanner, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish("sales_de")

    def refuse(path: str) -> str:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(DIGEST, refuse)
    assert folder(scanner).invalid[1] == f"{version}/model.onnx: cannot be read: Input/output error"
