"""One bad item never stops the others: it is named once, counted, left out, and read once it is mended (kserve#547)."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.catalog import scanner as scan_module
from controller.catalog.entities import Catalog, ScannedModel
from controller.catalog.integrity import sha256_digest, stat_digest
from controller.catalog.scanner import Scanner, ScanOptions
from controller.catalog.watcher import CatalogWatcher
from controller.metrics import ControllerMetrics
from controller.server import scan_options
from controller.settings import Settings
from controller.store.location import ModelSource
from tests import model_folders
from triptych.contract.verification.model_folder import ModelFolder, read_model_folder
from triptych.contract.verification.trial_limits import TrialLimits
from triptych.contract.verification.version import ValidationOptions

Publish = Callable[..., Path]
NOBODY = 65534


def scan(scanner: Scanner, *, settle: bool = False) -> dict[str, ScannedModel]:
    found = scanner.scan(settle=settle)
    assert found is not None
    return {folder.name: folder for folder in found.folders}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root for a while, since root may read everything."""
    if os.geteuid():
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder of models that any user may read, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_what_may_not_be_read_is_left_out_and_a_model_that_comes_later_is_seen(public: Path) -> None:
    publish = partial(model_folders.publish, public)
    publish("sales_de")
    closed = publish("sales_fr")
    (public / "lost+found").mkdir(mode=0o700)
    (public / "sales_fr").chmod(0o000)
    secret = publish("sales_it") / "model.onnx"
    secret.chmod(0o000)
    scanner = Scanner(public, None)
    with as_nobody():
        found = scan(scanner)
    assert set(found["sales_de"].versions) == {1}
    for name in ("lost+found", "sales_fr"):
        assert found[name].problem == f"{public / name}: cannot be read: Permission denied"
    assert found["sales_it"].invalid[1] == f"{secret}: cannot be read: Permission denied"
    publish("sales_es")
    (public / "sales_fr").chmod(0o755)
    assert closed.exists()
    with as_nobody():
        assert scanner.scan() is None
        found = scan(scanner, settle=True)
    assert {name for name, folder in found.items() if folder.present} == {"sales_de", "sales_es", "sales_fr"}


def make_fifo(models: Path) -> None:
    for name in ("config.pbtxt", "1/contract.yaml", "1/model.onnx"):
        path = models / "bad" / name
        path.unlink()
        os.mkfifo(path)


def outside(models: Path) -> None:
    secret = models.parent / "secret"
    secret.write_text("password: geheim")
    path = models / "bad" / "1" / "contract.yaml"
    path.unlink()
    path.symlink_to(secret)


def replace_by_link(models: Path) -> None:
    (models / "bad").rename(models.parent / "elsewhere")
    (models / "bad").symlink_to(models.parent / "elsewhere")


def loop(models: Path) -> None:
    shutil.rmtree(models / "bad")
    (models / "bad").symlink_to("bad")


def link_to_nothing(models: Path) -> None:
    shutil.rmtree(models / "bad")
    (models / "bad").symlink_to("nothing")


def link_upwards(models: Path) -> None:
    (models / "bad" / "1" / "up").symlink_to("..")


def odd_name(models: Path) -> None:
    (models / "bad").rename(models / os.fsdecode(b"bad\xff\n"))


def very_deep(models: Path) -> None:
    (models / "bad" / "1" / "/".join("d" * 40)).mkdir(parents=True)


def very_long(models: Path) -> None:
    config = models / "bad" / "config.pbtxt"
    config.write_text(config.read_text() + "#" * (2 << 20))


def utf_16(models: Path) -> None:
    config = models / "bad" / "config.pbtxt"
    config.write_text(config.read_text(), encoding="utf-16")


def out_by_name(models: Path) -> None:
    config = models / "bad" / "config.pbtxt"
    config.write_text(config.read_text() + 'default_model_filename: "../../../secret"')


def decoupled(models: Path) -> None:
    config = models / "bad" / "config.pbtxt"
    config.write_text(config.read_text() + "model_transaction_policy { decoupled: true }")


def is_a_file(models: Path) -> None:
    path = models / "bad" / "config.pbtxt"
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (make_fifo, "bad/config.pbtxt:1: is a FIFO; want a regular file"),
        (outside, "1/contract.yaml: is a link out of the model repository"),
        (replace_by_link, "bad: is a link out of the model repository"),
        (loop, "bad: cannot be read: Too many levels of symbolic links"),
        (link_to_nothing, "bad: is a link to nothing"),
        (link_upwards, "1/up: is a link to a folder above it"),
        (odd_name, r"bad\xff\x0a: the name of a model is printable UTF-8; rename the folder"),
        (very_deep, "lies deeper than 32 folders"),
        (very_long, "bad/config.pbtxt:1: larger than 1048576 bytes"),
        (utf_16, "bad/config.pbtxt:1: is UTF-16; save it as UTF-8"),
        (out_by_name, "default_model_filename is '../../../secret'"),
        (decoupled, "a decoupled model answers with a stream"),
        (is_a_file, "bad/config.pbtxt:1: is a folder; want a regular file"),
    ],
)
def test_one_bad_model_is_named_and_left_out(
    models: Path, publish: Publish, spoil: Callable[[Path], None], text: str
) -> None:
    publish("sales_de")
    publish("bad")
    spoil(models)
    found = scan(Scanner(models, None))
    assert set(found["sales_de"].versions) == {1}
    (bad,) = (folder for name, folder in found.items() if name != "sales_de")
    assert text in f"{bad.problem} {bad.invalid}", (bad.problem, bad.invalid)
    assert not bad.present
    assert "geheim" not in f"{bad.problem} {bad.invalid}"
    assert f"{bad.name} {bad.problem} {bad.invalid}".encode()


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE, errno.EPERM]
)
def test_any_system_error_of_one_folder_leaves_the_others_readable(
    models: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    publish("sales_de")
    publish("bad")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("/bad"):
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    scanner = Scanner(models, None)
    monkeypatch.setattr(os, "scandir", refuse)
    found = scan(scanner)
    assert set(found["sales_de"].versions) == {1}
    assert found["bad"].problem == f"{models}/bad: cannot be read: {os.strerror(number)}"
    assert scanner.scan() is None
    monkeypatch.undo()
    assert scanner.scan() is None
    assert set(scan(scanner, settle=True)["bad"].versions) == {1}


def test_an_unforeseen_fault_is_one_of_its_model(
    models: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish("sales_de")
    publish("bad")

    def fail(path: Path, root: Path, max_bytes: int) -> ModelFolder:
        if path.name == "bad":
            raise RecursionError("too deep")
        return read_model_folder(path, root, max_bytes)

    monkeypatch.setattr("controller.catalog.scanner.read_model_folder", fail)
    found = scan(Scanner(models, None))
    assert set(found["sales_de"].versions) == {1}
    assert found["bad"].problem.endswith("bad: cannot be read: RecursionError")
    assert "internal error" in caplog.text


def test_a_model_that_cannot_be_read_any_more_is_served_on_as_it_was(
    models: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("sales_de")
    scanner = Scanner(models, None)
    assert set(scan(scanner)["sales_de"].present) == {1}
    path = models / "sales_de" / "1" / "fifo"
    os.mkfifo(path)
    version = scan(scanner)["sales_de"].versions[1]
    assert version.removed
    assert version.fault == f"{path}: is a FIFO; want regular files"
    path.unlink()
    assert not scan(scanner)["sales_de"].versions[1].removed


def test_a_file_where_a_version_would_be_is_noted(models: Path, publish: Publish) -> None:
    publish("sales_de")
    (models / "sales_de" / "5").write_text("a file")
    assert scan(Scanner(models, None))["sales_de"].warnings == (
        f"{models}/sales_de/5: is no folder; a version is a folder with a whole number",
    )


@pytest.mark.parametrize("name", ["v1", "01", "0", "1.0", "latest"])
def test_a_folder_that_is_meant_for_a_version_is_noted(models: Path, publish: Publish, name: str) -> None:
    """tensorflow/serving#1250: versions of other names are not found, and no message gives the reason."""
    publish("sales_de").rename(models / "sales_de" / name)
    found = scan(Scanner(models, None))["sales_de"]
    assert found.warnings == (f"{models}/sales_de/{name}: is no version; want a whole number from 1",)


def test_a_model_that_never_was_valid_is_dropped_when_it_is_gone(models: Path, publish: Publish) -> None:
    publish("sales_de")
    (models / "bad").mkdir()
    scanner = Scanner(models, None)
    assert "bad" in scan(scanner)
    (models / "bad").rmdir()
    assert set(scan(scanner)) == {"sales_de"}


@pytest.mark.parametrize("left", ["", "config.pbtxt", "1", "1/model.onnx"])
def test_a_folder_that_disappears_while_it_is_read_ends_nothing(
    models: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """MLServer#657: a folder that disappears during a scan."""
    publish("sales_de")
    publish("bad")
    scandir = os.scandir

    def vanish(path: Any) -> Any:
        entries = list(scandir(path))
        if str(path).endswith("/bad/1"):
            target = models / "bad" / left
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        return _Entries(entries)

    monkeypatch.setattr(os, "scandir", vanish)
    found = scan(Scanner(models, None))
    assert set(found["sales_de"].versions) == {1}
    assert "bad" not in found or not found["bad"].present


class _Entries(list[Any]):
    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *error: object) -> None: ...


def test_an_empty_folder_is_a_lost_mount_and_changes_nothing(models: Path, publish: Publish) -> None:
    publish("sales_de")
    scanner = Scanner(models, None)
    scan(scanner)
    shutil.rmtree(models / "sales_de")
    with pytest.raises(OSError, match="no model is there any more"):
        scanner.scan()
    publish("sales_fr")
    found = scan(scanner)
    assert {name for name, folder in found.items() if folder.present} == {"sales_fr"}


def test_the_settings_reach_the_scanner(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FILE_BYTES", 2000), ("DOCUMENT_BYTES", 3000), ("FILES", 4), ("ROW_BYTES", 5000)):
        monkeypatch.setenv(f"CONTROLLER_MAX_{name}", str(value))
    monkeypatch.setenv("CONTROLLER_TRIAL_S", "6")
    monkeypatch.setenv("CONTROLLER_CHANGE_DETECTION", "time")
    wanted = ScanOptions(ValidationOptions(2000, 4, TrialLimits(5000, 6.0)), 3000, stat_digest)
    assert scan_options(Settings(), ModelSource(Path())) == wanted
    monkeypatch.setenv("CONTROLLER_CHANGE_DETECTION", "content")
    assert scan_options(Settings(), ModelSource(Path())).digest_of is sha256_digest
    of_store = ModelSource(Path(), digest_of=lambda path, file: "etag:1")
    assert scan_options(Settings(), of_store).digest_of is of_store.digest_of
    assert not scan_options(Settings(), of_store).validation.has_content


async def test_the_first_scan_and_all_later_ones_survive_a_bad_item_and_it_is_reported_once(
    models: Path, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    publish("sales_de")
    (models / "bad").symlink_to("bad")
    registry = CollectorRegistry()
    reported: list[Catalog] = []
    watcher = CatalogWatcher(Scanner(models, None), ControllerMetrics(registry), reported.append, undeclared="lowest")
    await watcher.start()
    publish("sales_fr")
    for _ in range(3):
        await watcher.scan()
    assert set(reported[-1].models) == {"sales_de", "sales_fr"}
    faults = [getattr(record, "fault", "") for record in caplog.records if record.levelname == "WARNING"]
    assert faults == [f"bad: {models}/bad: cannot be read: Too many levels of symbolic links"]
    assert registry.get_sample_value("triptych_versions_invalid") == 1
    assert registry.get_sample_value("triptych_catalog_faults") == 1


def test_an_ensemble_is_read_again_when_its_step_comes(models: Path, publish: Publish) -> None:
    publish("sales_de")
    config = models / "sales_de" / "config.pbtxt"
    text = config.read_text().replace('backend: "onnxruntime"', 'platform: "ensemble"')
    maps = 'input_map { key: "x" value: "x" } output_map { key: "y" value: "y" }'
    config.write_text(text + f'ensemble_scheduling {{ step [{{ model_name: "inner" model_version: -1 {maps} }}] }}')
    scanner = Scanner(models, None)
    assert "the model repository has no model 'inner'" in scan(scanner)["sales_de"].invalid[1]
    publish("inner")
    assert set(scan(scanner)["sales_de"].present) == {1}
    assert scanner.scan() is None


def test_large_items_come_last_and_hold_up_no_small_one(
    models: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner = Scanner(models, None)
    monkeypatch.setattr(scan_module, "SCAN_S", 0.0)
    (publish("bad") / "model.onnx").write_bytes(b"x" * 100_000)
    publish("sales_de")
    assert scanner.scan() is None
    assert set(scan(scanner, settle=True)) == {"sales_de"}
    assert scanner.more
    assert set(scan(scanner, settle=True)) == {"sales_de", "bad"}
    assert not scanner.more


async def test_a_slow_item_does_not_delay_the_next_scan(models: Path, publish: Publish) -> None:
    publish("sales_de")
    seconds: list[float] = []
    scanner = Scanner(models, None)
    watcher = CatalogWatcher(scanner, ControllerMetrics(CollectorRegistry()), lambda catalog: None, undeclared="lowest")
    await watcher.start()
    scanner.scan = lambda **options: seconds.append(1.0)  # type: ignore[method-assign]
    scanner.listing_s = 0.0
    for _ in range(2):
        await watcher.next_scan(0.001)
    assert len(seconds) == 2
