"""Buckets with millions of objects: the listing is bounded in number, memory and time, and other models go on.

The listings are made while they are read. A store of the program versitygw would need as many files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from controller.store import listing, objects
from controller.store.buckets import open_store
from controller.store.mirror import Mirror
from controller.store.objects import MAX_FOLDER_OBJECTS, PAGE_ITEMS, StoreError
from controller.store.options import StoreOptions
from tests.fakes.faulty_store import FaultyStore, faulty_store
from tests.fakes.memory_store import contents

MODELS = {"a/config.pbtxt": b"a", "a/1/model.onnx": b"first", "z/config.pbtxt": b"z", "z/1/model.onnx": b"last"}
MILLIONS = 10_000_000


class LargeStore:
    """Adds `number` made-up keys, which have to stand between those of the models, to the listings of a store."""

    def __init__(self, store: FaultyStore, key: str, number: int) -> None:
        self._store, self._key, self._number, self.pages = store, key, number, 0

    def listing(self, prefix: str, token: str, *, asked: bool) -> bytes:
        self.pages += 1
        behind = token.removeprefix(prefix)
        keys = [key for key in sorted(MODELS) if key.startswith("a") and key > behind]
        keys += self._made_up(behind, PAGE_ITEMS - len(keys))
        keys += [key for key in sorted(MODELS) if key.startswith("z") and key > behind]
        shown = keys[:PAGE_ITEMS]
        rows = "".join(
            f"<Contents><Key>{prefix}{key}</Key><Size>{len(MODELS.get(key, b''))}</Size>"
            f"<ETag>{self._tag(prefix, key)}</ETag></Contents>"
            for key in shown
        )
        more = len(keys) > PAGE_ITEMS or self._made_up(shown[-1], 1)
        end = f"<NextContinuationToken>{quote(prefix + shown[-1])}</NextContinuationToken>" if more else ""
        head = f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{end}"
        return f"<ListBucketResult>{head}{rows}</ListBucketResult>".encode()

    def _made_up(self, behind: str, most: int) -> list[str]:
        head = self._key.partition("{")[0]
        if behind[: len(head)] > head:
            return []
        first = int(behind[len(head) : len(head) + 8]) + 1 if behind.startswith(head) else 0
        return [self._key.format(number) for number in range(first, min(first + most, self._number))]

    def _tag(self, prefix: str, key: str) -> str:
        kept = self._store.objects.get(prefix + key)
        return FaultyStore.tag(kept) if kept else "made"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with faulty_store() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.endpoint)
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        for path, content in MODELS.items():
            running.put(f"eu/{path}", content)
        yield running


def test_a_data_set_of_ten_million_objects_is_passed_over_after_its_first_pages(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = LargeStore(store, "images/{:08}.jpg", MILLIONS)
    monkeypatch.setattr(store, "listing", large.listing)
    listed = open_store("s3://models/eu").list()
    assert MODELS.keys() <= listed.keys()
    assert len(listed) == len(MODELS) + MAX_FOLDER_OBJECTS + 1
    assert large.pages <= MAX_FOLDER_OBJECTS / PAGE_ITEMS + 3


def test_models_beside_a_data_set_are_mirrored_and_the_data_set_is_named(
    store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "MAX_FOLDER_OBJECTS", 5)
    monkeypatch.setattr("controller.store.keys.MAX_FOLDER_OBJECTS", 5)
    large = LargeStore(store, "images/{:08}/x", MILLIONS)
    monkeypatch.setattr(store, "listing", large.listing)
    mirror = Mirror(open_store("s3://models/eu"), tmp_path / "models", whole=False)
    mirror.refresh()
    found = contents(tmp_path / "models")
    assert found["a/config.pbtxt"] + found["z/config.pbtxt"] == b"az"
    fault = "s3://models/eu/images: has more than 5 objects; those behind are not read"
    assert (mirror.faults, large.pages) == ({"images": fault}, 2)


def test_a_bucket_of_ten_million_folders_is_a_fault_and_what_is_mirrored_stays(
    store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = StoreOptions(max_objects=3_000)
    mirror = Mirror(open_store("s3://models/eu", options), tmp_path / "models", whole=True)
    mirror.refresh()
    large = LargeStore(store, "m{:08}/x", MILLIONS)
    monkeypatch.setattr(store, "listing", large.listing)
    want = r"want at most 3000 objects \(models.maxObjects, --max-objects\), got more; move what is no model elsewhere$"
    with pytest.raises(StoreError, match=want):
        mirror.refresh()
    assert (contents(tmp_path / "models"), large.pages) == (MODELS, 4)


def test_a_listing_without_end_is_a_fault(store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages may be empty, and objects beside the models cannot be passed over: only time ends such a listing."""
    large = LargeStore(store, "m{:08}", MILLIONS)
    monkeypatch.setattr(store, "listing", large.listing)
    monkeypatch.setattr(objects, "MAX_LISTING_S", 0.0)
    with pytest.raises(StoreError, match=r"want a listing within 0 s, got \d+ objects and no end"):
        open_store("s3://models/eu").list()
    assert large.pages == 1


def test_a_page_that_comes_too_slowly_is_a_fault(store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte every 29 s kept a page for years: the limit between two bytes is 30 s."""
    monkeypatch.setattr(listing, "PAGE_S", 0.0)
    monkeypatch.setattr(listing, "FIRST_PAUSE_S", 0.0)
    with pytest.raises(StoreError, match="does not answer: a page of the listing takes more than 0 s"):
        open_store("s3://models/eu").list()
    assert store.listings == listing.TRIES
    monkeypatch.setattr(listing, "PAGE_S", 60.0)
    assert open_store("s3://models/eu").list().keys() == MODELS.keys()


def test_nothing_is_passed_over_in_a_listing_without_order(store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MAX_FOLDER_OBJECTS", 2)
    rows = "".join(
        f"<Contents><Key>eu/{key}</Key><Size>1</Size></Contents>"
        for key in ("z/1", *"mmm", "m/1", "m/2", "m/3", "m/4", "b/1")
    )
    monkeypatch.setattr(store, "raw", f"<ListBucketResult>{rows}</ListBucketResult>".encode())
    assert {"b/1", "z/1"} <= open_store("s3://models/eu").list().keys()
    assert store.listings == 1
