"""One odd object in a store leaves the others: it is named, left out, and counted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.store.buckets import open_store
from controller.store.mirror import Mirror
from controller.store.objects import Object, Store, StoreError
from tests.fakes.faulty_store import FaultyStore, faulty_store, invalid, refused, unpacked
from tests.fakes.memory_store import URI, InMemoryStore, contents

GOOD = {"m/config.pbtxt": b"c", "m/1/model.onnx": b"one", "z/config.pbtxt": b"z", "z/1/model.onnx": b"last"}


@pytest.fixture(params=["s3", "gs"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    with faulty_store() as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("GOOGLE_BASE_URL", store.endpoint)
        monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
        for path, content in GOOD.items():
            store.put(f"eu/{path}", content)
        yield store


def opened(scheme: str) -> Store:
    return open_store(f"{scheme}://models/eu")


ODD = {
    "eu//stray.txt": "has an empty part",  # obstore#429
    "eu/m/1//x": "has an empty part",
    "eu/m/../../etc/passwd": "has a part '.' or '..'",
    "eu/m/./x": "has a part '.' or '..'",
    "eu/m/1/a\nb": "has a character that cannot be shown",
    "eu/m/1/a\x01b": "has a character that cannot be shown",
    "eu/m/1/\u202egnp.x": "has a character that cannot be shown",
    "eu/m\\1\\model.onnx": "has a backslash",
    f"eu/m/1/{'ä' * 128}": "has a part of 256 bytes, want at most 255",
    "eu/m/1": "is an object and a folder at once",
}
S3_ALONE = {  # obstore, which lists GCS, gives the first as a file
    "eu/m/1/x/": "has an empty part",  # a marker that has a content
    "eu/m/1/\udcff.bin": "has a character that cannot be shown",
}


@pytest.mark.parametrize(
    ("scheme", "key", "why"),
    [("gs", key, why) for key, why in ODD.items()] + [("s3", key, why) for key, why in (ODD | S3_ALONE).items()],
)
def test_a_key_that_cannot_be_a_file_is_named_and_left_out(
    odd: FaultyStore, tmp_path: Path, scheme: str, key: str, why: str
) -> None:
    odd.put(key, b"stray")
    mirror = Mirror(opened(scheme), tmp_path / "models", whole=True)
    mirror.refresh()
    assert contents(tmp_path / "models") == GOOD
    (fault,) = mirror.faults.values()
    assert fault.startswith(f"{scheme}://models/eu/")
    assert why in fault
    assert fault.isprintable()
    del odd.objects[key], odd.objects["eu/z/1/model.onnx"]
    mirror.refresh()
    assert mirror.faults == {}
    assert contents(tmp_path / "models") == {path: GOOD[path] for path in GOOD if path != "z/1/model.onnx"}


@pytest.mark.parametrize("answer", [unpacked, refused, invalid], ids=["gzip", "403", "400"])
def test_an_object_that_cannot_be_read_leaves_out_its_version_alone(
    odd: FaultyStore, tmp_path: Path, scheme: str, answer: object
) -> None:
    """`Content-Encoding: gzip` in GCS is arrow-rs-object-store#774."""
    mirror = Mirror(opened(scheme), tmp_path / "models", whole=True)
    mirror.refresh()
    odd.put("eu/m/2/model.onnx", "two")
    odd.put("eu/m/2/a.gz", "12345678", answer=answer)
    odd.put("eu/z/2/model.onnx", "behind it in the listing")
    del odd.objects["eu/m/1/model.onnx"]
    mirror.refresh()
    assert list(mirror.faults) == ["m/2/a.gz"]
    assert mirror.faults["m/2/a.gz"].startswith(f"{scheme}://models/eu/m/2/a.gz: cannot be read: ")
    wanted = GOOD | {"z/2/model.onnx": b"behind it in the listing"}
    del wanted["m/1/model.onnx"]
    assert contents(tmp_path / "models") == wanted
    odd.put("eu/m/2/a.gz", "12345678")
    mirror.refresh()
    assert (mirror.faults, (tmp_path / "models/m/2/a.gz").read_text()) == ({}, "12345678")


def test_what_cannot_be_read_is_tried_again_more_and_more_seldom(odd: FaultyStore, tmp_path: Path, scheme: str) -> None:
    now_s = 0.0
    odd.put("eu/m/2/secret", "x", answer=refused)
    mirror = Mirror(opened(scheme), tmp_path / "models", whole=True, clock=lambda: now_s)
    tries = []
    for _ in range(100):
        mirror.refresh()
        assert list(mirror.faults) == ["m/2/secret"]
        tries.append(odd.read.count("eu/m/2/secret"))
        now_s += 10
    assert (tries[1], tries[-1]) == (2, 8)


@pytest.mark.parametrize(
    "size", ["3", "900", "", "many", "-1", "9" * 400], ids=["less", "more", "no", "word", "-1", "huge"]
)
def test_a_size_that_is_not_what_comes_leaves_out_the_version_alone(
    odd: FaultyStore, tmp_path: Path, size: str
) -> None:
    odd.put("eu/m/2/model.onnx", "12345678", listed_size=size or "none")
    mirror = Mirror(opened("s3"), tmp_path / "models", whole=True)
    mirror.refresh()
    assert (list(mirror.faults), contents(tmp_path / "models")) == (["m/2/model.onnx"], GOOD)


class SmallDisk(InMemoryStore):
    """A store whose downloads go to a disk that is too small for `large` as long as `old` is there."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__()
        self._folder, self._number = folder, number

    def read(self, path: str, known: Object, into: Path, on_bytes: Callable[[int], None]) -> None:
        if path.startswith("large/") and (self._folder / "old/1/model.onnx").exists():
            raise OSError(self._number, os.strerror(self._number))
        super().read(path, known, into, on_bytes)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_version_that_does_not_fit_the_disk_leaves_out_itself_alone(tmp_path: Path, number: int) -> None:
    """It ended the sync, so that what was deleted in the store to make room was never removed."""
    folder = tmp_path / "models"
    store, clock = SmallDisk(folder, number), [0.0]
    store.put("old/1/model.onnx", b"o" * 500)
    mirror = Mirror(store, folder, whole=True, clock=lambda: clock[0])
    mirror.refresh()
    store.put("large/1/model.onnx", b"l" * 600)
    store.put("small/1/model.onnx", b"s" * 100)
    store.put("small/2/model.onnx", b"t" * 100)
    mirror.refresh()
    assert set(contents(folder)) == set(store.contents()) - {"large/1/model.onnx"}
    (fault,) = mirror.faults.values()
    assert fault == f"s3://models/eu/large/1/model.onnx: cannot be a file here: {os.strerror(number)}"
    store.delete("old/1/model.onnx")
    clock[0] += 1
    mirror.refresh()
    assert "old/1/model.onnx" not in contents(folder)
    for _ in range(3):
        clock[0] += 1000
        mirror.refresh()
    assert (mirror.faults, contents(folder)) == ({}, store.contents())


def test_empty_objects_and_objects_without_a_tag_are_files(odd: FaultyStore, tmp_path: Path) -> None:
    odd.put("eu/m/1/empty.bin", b"")
    odd.put("eu/m/1/untagged.bin", b"x", tag="")
    mirror = Mirror(opened("s3"), tmp_path / "models", whole=True)
    mirror.refresh()
    assert contents(tmp_path / "models") == GOOD | {"m/1/empty.bin": b"", "m/1/untagged.bin": b"x"}
    odd.read.clear()
    assert not mirror.refresh()
    assert odd.read == []


def test_keys_that_mean_something_elsewhere_are_names_here(odd: FaultyStore, tmp_path: Path) -> None:
    names = ["a+b c.txt", "%2e%2e", "100%", "ü#?.bin", "Model.ONNX", "model.onnx", "~!*'()", "a&b<c>", ";", "日本"]
    for name in names:
        odd.put(f"eu/m/1/{name}", name)
    Mirror(opened("s3"), tmp_path / "models", whole=True).refresh()
    found = contents(tmp_path / "models")
    assert {path: found[path] for path in found if path.startswith("m/1/")} == {
        f"m/1/{name}": name.encode() for name in names
    }


@pytest.mark.parametrize("escapes", [True, False])
def test_a_listing_of_many_pages_is_one(odd: FaultyStore, escapes: bool) -> None:
    odd.page, odd.escapes = 7, escapes
    for number in range(100):
        odd.put(f"eu/m/{number}/x y", str(number))
    odd.put("eu/m//stray.txt")
    assert len(opened("s3").list()) == 105
    assert len(opened("s3").list("m/1")) == 13 - 1


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>sign in</html>",
        b"",
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>a</NextContinuationToken>"
        b"</ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><IsTruncated> TRUE </IsTruncated><NextMarker>a</NextMarker></ListBucketResult>",
    ],
    ids=["page", "nothing", "no end", "truncated without a token", "version 1 of the API"],
)
def test_an_answer_that_is_no_listing_is_a_fault_of_the_store_and_the_folder_stays(
    odd: FaultyStore, tmp_path: Path, raw: bytes
) -> None:
    mirror = Mirror(opened("s3"), tmp_path / "models", whole=True)
    mirror.refresh()
    odd.raw = raw
    with pytest.raises(StoreError, match="does not answer: "):
        mirror.refresh()
    assert contents(tmp_path / "models") == GOOD


def test_tokens_in_a_circle_are_no_endless_listing(odd: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def listing(prefix: str, token: str, *, asked: bool) -> bytes:
        following = {"": "a", "a": "b", "b": "a"}[token]
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{following}</NextContinuationToken>"
        return f"<ListBucketResult>{more}</ListBucketResult>".encode()

    monkeypatch.setattr(odd, "listing", listing)
    with pytest.raises(StoreError, match="does not end: two pages have the same continuation token"):
        opened("s3").list()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NOT_WHOLE = {
    "cut off within a chunk": CHUNKED + b"1000\r\n<ListBucketResult>",
    "no size of a chunk": CHUNKED + b"zz\r\n<ListBucketResult>",
    "cut off within its length": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<ListBucketResult>",
    "no HTTP": b"sorry\r\n\r\n",
    "nothing": b"",
    "a line of 70,000 bytes": b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000 + b"\r\n\r\n",
    "200 header fields": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
}


@pytest.mark.parametrize("answer", NOT_WHOLE)
def test_an_answer_that_is_not_whole_is_a_fault_of_the_store_and_the_folder_stays(
    odd: FaultyStore, tmp_path: Path, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.store.listing.FIRST_PAUSE_S", 0.0)
    mirror = Mirror(opened("s3"), tmp_path / "models", whole=True)
    mirror.refresh()
    odd.wire = [NOT_WHOLE[answer]] * 3
    with pytest.raises(StoreError, match="does not answer: "):
        mirror.refresh()
    assert contents(tmp_path / "models") == GOOD
    odd.put("eu/m/2/model.onnx", "two")
    odd.wire = [NOT_WHOLE["no HTTP"], b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"]
    mirror.refresh()
    assert contents(tmp_path / "models") == GOOD | {"m/2/model.onnx": b"two"}


def test_the_reason_of_a_refusal_may_be_cut_off(odd: FaultyStore) -> None:
    odd.wire = [CHUNKED.replace(b"200 OK", b"403 Forbidden") + b"1000\r\n<Error>"]
    with pytest.raises(StoreError, match="refuses a list of what is there: 403 Forbidden"):
        opened("s3").list()


def test_a_size_that_is_no_number_leaves_out_its_object_alone(odd: FaultyStore, tmp_path: Path) -> None:
    for number, size in enumerate(("9" * 5000, "-5", "\u0665", "1e3", " ")):
        odd.put(f"eu/n/{number}/x", listed_size=size)
    mirror = Mirror(opened("s3"), tmp_path / "models", whole=True)
    mirror.refresh()
    assert (len(mirror.faults), contents(tmp_path / "models")) == (5, GOOD)


def test_a_control_character_that_the_store_does_not_escape_takes_out_its_key_alone(
    odd: FaultyStore, tmp_path: Path
) -> None:
    odd.escapes = False
    odd.put("eu/m/1/a\x01b")
    mirror = Mirror(opened("s3"), tmp_path / "models", whole=True)
    mirror.refresh()
    assert (len(mirror.faults), contents(tmp_path / "models")) == (1, GOOD)


def test_a_store_that_refuses_the_listing_is_reported_without_the_signature(odd: FaultyStore) -> None:
    with pytest.raises(StoreError) as caught:
        open_store("s3://elsewhere/eu").list()
    assert "refuses a list of what is there: 403 Forbidden, AccessDenied" in str(caught.value)
    assert "X-Amz" not in str(caught.value)


def test_a_folders_marker_is_no_file_before_and_after_something_is_in_it(
    odd: FaultyStore, tmp_path: Path, scheme: str
) -> None:
    """kserve#817"""
    for key in ("eu/", "eu/n/", "eu/n/2/", "eu/m/2/"):
        odd.put(key, b"")
    folder = tmp_path / "models"
    mirror = Mirror(opened(scheme), folder, whole=True)
    mirror.refresh()
    assert (mirror.faults, contents(folder)) == ({}, GOOD)
    odd.put("eu/m/2/model.onnx", "two")
    mirror.refresh()
    assert (mirror.faults, contents(folder)) == ({}, GOOD | {"m/2/model.onnx": b"two"})
    del odd.objects["eu/m/2/model.onnx"]
    mirror.refresh()
    assert contents(folder) == GOOD


def test_a_file_becomes_a_folder_and_a_folder_becomes_a_file(odd: FaultyStore, tmp_path: Path, scheme: str) -> None:
    folder = tmp_path / "models"
    odd.put("eu/m/1/data", "file")
    mirror = Mirror(opened(scheme), folder, whole=True)
    mirror.refresh()
    del odd.objects["eu/m/1/data"]
    odd.put("eu/m/1/data/x", "in a folder")
    mirror.refresh()
    assert contents(folder) == GOOD | {"m/1/data/x": b"in a folder"}
    del odd.objects["eu/m/1/data/x"]
    odd.put("eu/m/1/data", "file")
    mirror.refresh()
    assert contents(folder) == GOOD | {"m/1/data": b"file"}


def test_names_that_only_begin_like_the_uri_or_occur_again_below_are_distinguished(
    odd: FaultyStore, tmp_path: Path, scheme: str
) -> None:
    """kserve#2473, kserve#4120"""
    for key in ("eu", "eu-logs/m/config.pbtxt", "eu.bak/m/1/model.onnx", "europe/m/1/model.onnx"):
        odd.put(key, b"another's")
    odd.put("eu/m/1/eu/m/1/model.onnx", b"below")
    mirror = Mirror(opened(scheme), tmp_path / "models", whole=True)
    mirror.refresh()
    assert (mirror.faults, contents(tmp_path / "models")) == ({}, GOOD | {"m/1/eu/m/1/model.onnx": b"below"})


def test_a_data_set_among_the_models_takes_no_memory_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing of a million objects took half a gigabyte."""
    monkeypatch.setattr("controller.store.objects.MAX_FOLDER_OBJECTS", 5)
    monkeypatch.setattr("controller.store.keys.MAX_FOLDER_OBJECTS", 5)
    store = InMemoryStore()
    for number in range(20):
        store.put(f"images/{number:02}.jpg")
        store.put(f"photos/{number}/a/b.jpg")
        store.put(f"{number:02}.txt")
    store.upload(tmp_path / "scratch", "zebra")
    listed = store.list()
    assert len([key for key in listed if "zebra" not in key]) == 3 * 6
    mirror = Mirror(store, tmp_path / "models", whole=True)
    mirror.refresh()
    assert (tmp_path / "models/zebra/1/contract.yaml").exists()
    fault = "has more than 5 objects; those behind are not read"
    assert mirror.faults == {key: f"{URI}/{key}: {fault}" for key in ("images", "photos", ".")}
    mirror.close()
