"""Odd buckets in a real S3 store: each object that cannot be read is left out, and the rest is mirrored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from controller.catalog.scanner import Scanner, ScanOptions
from controller.store.buckets import open_store
from controller.store.location import model_source
from controller.store.mirror import Mirror
from tests.fakes.memory_store import contents
from tests.integration.s3_gateway import Gateway, s3_gateway
from tests.model_folders import publish
from triptych.contract.verification.version import ValidationOptions


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    with s3_gateway(tmp_path / "s3", monkeypatch) as running:
        yield running


def upload(gateway: Gateway, scratch: Path, model: str, version: int = 1) -> dict[str, bytes]:
    folder = publish(scratch, model, version)
    files = {
        file.relative_to(scratch).as_posix(): file.read_bytes() for file in folder.parent.rglob("*") if file.is_file()
    }
    for path, content in files.items():
        gateway.store.put(f"eu/{path}", content)
    return files


def test_a_bucket_of_odd_keys_is_mirrored_but_for_what_is_named(gateway: Gateway, tmp_path: Path) -> None:
    wanted = upload(gateway, tmp_path / "scratch", "sales_de")
    names = ["a+b c.txt", "ü%41#?.txt", "~!*'()", "Model.ONNX", "100%", "empty"]
    for name in names:
        gateway.store.put(f"eu/sales_de/1/{name}", name.encode() * (name != "empty"))
    for marker in ("eu/", "eu/sales_de/", "eu/sales_de/2/", "eu/sales_fr/"):
        gateway.put_raw(marker)
    gateway.put_raw("eu/sales_de/1/back\\slash", b"x")
    gateway.put_raw("eu/sales_de/1/new\nline", b"x")
    mirror = Mirror(open_store("s3://models/eu"), tmp_path / "models", whole=True)
    mirror.refresh()
    wanted |= {f"sales_de/1/{name}": name.encode() * (name != "empty") for name in names}
    assert contents(tmp_path / "models") == wanted
    assert sorted(mirror.faults) == ["sales_de/1/back\\slash", "sales_de/1/new\nline"]
    gateway.store.put("eu/sales_de/2/model.onnx", b"where the marker was")
    gateway.store.delete(["eu/sales_de/1/empty"])
    mirror.refresh()
    del wanted["sales_de/1/empty"]
    assert contents(tmp_path / "models") == wanted | {"sales_de/2/model.onnx": b"where the marker was"}


def test_three_pages_of_objects_are_one_listing(gateway: Gateway, tmp_path: Path) -> None:
    folder = gateway.folder / "eu" / "sales_de" / "1"
    folder.mkdir(parents=True)
    for number in range(2500):  # put into the folder of the gateway: faster than by calls
        (folder / f"part {number:04}").write_bytes(b"x")
    assert len(open_store("s3://models/eu").list()) == 2500


def test_an_object_whose_file_is_gone_under_the_gateway_leaves_the_others(gateway: Gateway, tmp_path: Path) -> None:
    """For any answer of the store, an unreadable object does not count as an unavailable store."""
    wanted = upload(gateway, tmp_path / "scratch", "sales_de")
    upload(gateway, tmp_path / "scratch", "sales_fr")
    (gateway.folder / "eu/sales_fr/1/model.onnx").unlink()
    (gateway.folder / "eu/sales_fr/1/model.onnx").symlink_to("/nowhere")
    mirror = Mirror(open_store("s3://models/eu"), tmp_path / "models", whole=True)
    mirror.refresh()
    found = contents(tmp_path / "models")
    assert {path: found[path] for path in found if path.startswith("sales_de/")} == {
        path: content for path, content in wanted.items() if path.startswith("sales_de/")
    }


def test_a_published_version_is_recognized_by_its_tags_through_a_real_store(gateway: Gateway, tmp_path: Path) -> None:
    upload(gateway, tmp_path / "scratch", "sales_de")
    whole = Mirror(open_store("s3://models/eu"), tmp_path / "triton" / "models", whole=True)
    whole.refresh()
    source = model_source("s3://models/eu", tmp_path / "controller" / "models")
    source.refresh()
    digest_of = source.digest_of
    assert digest_of is not None
    scanner = Scanner(source.folder, None, ScanOptions(ValidationOptions(has_content=False), digest_of=digest_of))
    scan = scanner.scan(settle=False)
    assert scan is not None
    (folder,) = scan.folders
    assert all(digest.startswith("etag:") for digest in (folder.versions[1].files or {}).values())
    before = (tmp_path / "triton/models/sales_de/1/model.onnx").read_bytes()
    gateway.store.put("eu/sales_de/1/model.onnx", b"z" * len(before))
    assert source.changed_files("sales_de", 1) == "model.onnx changed", "before any other listing"
    whole.refresh()
    source.refresh()
    assert (tmp_path / "triton/models/sales_de/1/model.onnx").read_bytes() == before
    assert list(whole.faults) == ["sales_de/1/model.onnx"]
    assert "model.onnx changed" in scanner.integrity.check("sales_de", 1, False)
    gateway.store.put("eu/sales_de/1/model.onnx", before)
    whole.refresh()
    source.refresh()
    assert (whole.faults, scanner.integrity.check("sales_de", 1, False), source.changed_files("sales_de", 1)) == (
        {},
        "",
        "",
    )


def test_an_upload_in_parts_is_one_object_when_it_is_whole(gateway: Gateway, tmp_path: Path) -> None:
    upload(gateway, tmp_path / "scratch", "sales_de")
    mirror = Mirror(open_store("s3://models/eu"), tmp_path / "models", whole=True)
    mirror.refresh()
    part = os.urandom(5 << 20)
    observed = list[bool]()

    def parts() -> Iterator[bytes]:
        for _ in range(3):
            beside.submit(mirror.refresh).result()  # obstore calls nothing from within a call
            observed.append((tmp_path / "models/sales_de/2").exists())
            yield part

    with ThreadPoolExecutor(1) as beside:
        gateway.store.put("eu/sales_de/2/onnx/weights.bin", parts(), chunk_size=5 << 20)
    mirror.refresh()
    assert observed == [False] * 3
    assert (tmp_path / "models/sales_de/2/onnx/weights.bin").read_bytes() == part * 3
