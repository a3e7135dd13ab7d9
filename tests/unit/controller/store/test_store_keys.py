"""Keys of a bucket that are files: any listing can be sorted, and the accepted keys fit into a folder."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.store.keys import classify
from controller.store.mirror import Mirror
from controller.store.objects import Object
from tests.fakes.memory_store import InMemoryStore, contents
from tests.fuzz.file_checks import check_listed

PARTS = st.one_of(
    st.sampled_from(["m", "1", "2", "config.pbtxt", "contract.yaml", "", ".", "..", ".hidden", "a\\b", "ä" * 130]),
    st.text(max_size=3),
    st.characters(codec=None).map(str),
    st.binary(max_size=4).map(os.fsdecode),
)
KEYS = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
OBJECTS = st.builds(Object, st.integers(-1, 3), st.integers(-(2**70), 2**70), st.sampled_from(["", '"a"', "W/b"]))


@example({"\ud800": Object(0, 0, ""), "m/\udcff": Object(1, 0, ""), "m/1/": Object(2, 0, "")})
@given(st.dictionaries(KEYS, OBJECTS, max_size=12))
@settings(max_examples=200, deadline=None)
def test_every_listing_is_sorted_out_and_every_file_is_one(listed: dict[str, Object]) -> None:
    check_listed(listed)


NAMES = st.sampled_from(["m/config.pbtxt", "m/1/x", "m/1/x/y", "m/1", "m/2", "m", "n/1/x", "n/1/d/x", "n/1/d"])


@given(st.lists(st.dictionaries(NAMES, st.sampled_from([None, "", "x", "yy"])), max_size=6))
@settings(max_examples=60, deadline=None)
def test_files_become_folders_and_folders_files_and_the_mirror_follows(
    tmp_path_factory: object, steps: list[dict[str, str | None]]
) -> None:
    folder = Path(tmp_path_factory.mktemp("mirror")) / "models"  # type: ignore[attr-defined]
    store = InMemoryStore()
    store.put("stays/config.pbtxt")
    mirror = Mirror(store, folder, whole=True)
    for step in steps:
        for path, content in step.items():
            if content is not None:
                store.put(path, content)
            elif path in store.list():
                store.delete(path)
        mirror.refresh()
        files = classify(store.list()).files
        everything = store.contents()
        assert contents(folder) == {path: everything[path] for path in files}
        assert mirror.faults.keys() == classify(store.list()).faults.keys()
    mirror.close()
