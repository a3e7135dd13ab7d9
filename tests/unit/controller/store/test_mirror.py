"""A folder that follows an object store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.catalog.scanner import Scanner, ScanOptions
from controller.store.download_progress import DownloadProgress
from controller.store.mirror import FolderError, Mirror, MirrorChange
from controller.store.objects import Object, StoreError
from tests.fakes.memory_store import URI, InMemoryStore, contents, mirrored
from triptych.contract.verification.version import ValidationOptions

CONTRACTS_ONLY = ScanOptions(ValidationOptions(has_content=False))


@pytest.fixture
def store() -> InMemoryStore:
    return InMemoryStore()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirror" / "models"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


def test_a_whole_mirror_has_every_file_of_a_model_and_its_time(
    store: InMemoryStore, folder: Path, scratch: Path
) -> None:
    store.upload(scratch, "sales_de", 1)
    store.put("sales_de/1/deep/er/weights.bin", b"w" * 3_000_000)
    assert Mirror(store, folder, whole=True).refresh() == MirrorChange(downloaded=4)
    assert contents(folder) == store.contents()
    listed = store.list()
    assert {path: (folder / path).stat().st_mtime_ns for path in listed} == {
        path: known.modified_ns for path, known in listed.items()
    }


@pytest.mark.parametrize(("whole", "mode"), [(False, 0o700), (True, 0o755)])
def test_a_mirror_is_read_by_its_user_alone_unless_a_triton_of_another_user_may_read_it(
    store: InMemoryStore, folder: Path, whole: bool, mode: int
) -> None:
    before = os.umask(0o022)
    try:
        Mirror(store, folder, whole=whole).refresh()
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == mode


def test_the_controllers_mirror_reads_only_what_it_needs_and_knows_the_size_of_the_rest(
    store: InMemoryStore, folder: Path, scratch: Path
) -> None:
    store.upload(scratch, "sales_de", 1)
    store.put("sales_de/1/model.onnx", b"w" * 70_000_000)
    mirrored(store, folder, whole=False)
    assert sorted(store.read_paths) == ["sales_de/1/contract.yaml", "sales_de/config.pbtxt"]
    placeholder = (folder / "sales_de/1/model.onnx").stat()
    assert (placeholder.st_size, placeholder.st_blocks) == (70_000_000, 0)
    scan = Scanner(folder, None, CONTRACTS_ONLY).scan(settle=False)
    assert scan is not None
    (model,) = scan.folders
    assert (dict(model.invalid), model.versions[1].file_bytes) == ({}, 70_000_000)


def test_the_controllers_mirror_reads_files_that_steps_may_read_up_to_the_limit(
    store: InMemoryStore, folder: Path, scratch: Path
) -> None:
    store.upload(scratch, "sales_de", 1)
    store.put("sales_de/1/tokenizer.json", b"t" * 1000)
    store.put("sales_de/1/deep/words.txt", b"w" * 1001)
    limited = Mirror(store, folder, whole=False, max_step_file_bytes=1000)
    limited.refresh()
    limited.close()
    assert (folder / "sales_de/1/tokenizer.json").read_bytes() == b"t" * 1000
    assert (folder / "sales_de/1/deep/words.txt").stat().st_blocks == 0
    store.read_paths.clear()
    Mirror(store, folder, whole=False, max_step_file_bytes=1001).refresh()
    assert (folder / "sales_de/1/deep/words.txt").read_bytes() == b"w" * 1001
    assert store.read_paths == ["sales_de/1/deep/words.txt"]


def test_only_what_changed_is_read_again(store: InMemoryStore, folder: Path, scratch: Path) -> None:
    for name in ("sales_de", "sales_fr"):
        store.upload(scratch, name)
    mirror = mirrored(store, folder)
    store.read_paths.clear()
    assert mirror.refresh() == MirrorChange()
    store.put("sales_de/config.pbtxt", store.contents()["sales_de/config.pbtxt"].swapcase())  # as long as before
    store.put("sales_fr/2/model.onnx", "new")
    assert mirror.refresh() == MirrorChange(downloaded=2)
    assert sorted(store.read_paths) == ["sales_de/config.pbtxt", "sales_fr/2/model.onnx"]
    assert contents(folder) == store.contents()


def test_after_a_restart_nothing_is_read_again_but_what_changed_meanwhile(
    store: InMemoryStore, folder: Path, scratch: Path
) -> None:
    for name in ("sales_de", "sales_fr", "sales_it"):
        store.upload(scratch, name)
    mirrored(store, folder).close()
    store.read_paths.clear()
    store.put("sales_de/config.pbtxt", "four")
    (folder / "sales_fr/config.pbtxt").write_text("edited here")
    store.delete("sales_it/1/model.onnx")
    mirrored(store, folder)
    assert sorted(store.read_paths) == ["sales_de/config.pbtxt", "sales_fr/config.pbtxt"]
    assert contents(folder) == store.contents()


def test_versions_and_models_that_are_deleted_leave_no_empty_folder(
    store: InMemoryStore, folder: Path, scratch: Path
) -> None:
    store.upload(scratch, "sales_de", 1)
    store.upload(scratch, "sales_de", 2)
    store.upload(scratch, "sales_fr", 1)
    store.put("sales_de/1/deep/er/weights.bin")
    mirror = mirrored(store, folder)
    gone = [path for path in store.list() if path.startswith(("sales_de/2/", "sales_fr/", "sales_de/1/deep/"))]
    store.delete(*gone)
    assert mirror.refresh() == MirrorChange(removed=len(gone))
    assert contents(folder) == store.contents()
    assert sorted(path.name for path in folder.rglob("*") if path.is_dir()) == ["1", "sales_de"]


def test_a_model_that_is_renamed_is_there_under_its_new_name_only(
    store: InMemoryStore, folder: Path, scratch: Path
) -> None:
    store.upload(scratch, "sales_de")
    mirror = mirrored(store, folder)
    for path in store.list():
        store.memory.rename(path, path.replace("sales_de", "sales_at"))
    assert mirror.refresh() == MirrorChange(downloaded=3, removed=3)
    assert contents(folder) == store.contents()


def test_nobody_sees_half_of_a_new_version(store: InMemoryStore, folder: Path, scratch: Path) -> None:
    observed: list[set[str]] = []

    def scan(progress: DownloadProgress) -> None:
        assert progress.total_files == 3
        observed.append({file.name for file in (folder / "sales_de/2").glob("*")})

    store.upload(scratch, "sales_de", 1)
    mirrored(store, folder).close()
    store.put("sales_de/2/a.bin", b"a" * 3_000_000)
    store.put("sales_de/2/contract.yaml", "c")
    store.put("sales_de/2/z.bin", b"z" * 3_000_000)
    Mirror(store, folder, whole=True, on_progress=scan).refresh()
    assert len(observed) > 3
    assert set(map(frozenset, observed)) == {frozenset()}
    assert contents(folder) == store.contents()


def test_into_a_version_that_is_there_the_contract_comes_as_the_last_and_goes_as_the_first(
    store: InMemoryStore, folder: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.upload(scratch, "sales_de", 1)
    store.put("sales_de/1/left.bin")
    mirror = mirrored(store, folder)
    order: list[str] = []
    replace, unlink = os.replace, Path.unlink

    def placed(old: Path, new: Path) -> None:
        if folder in new.parents:
            order.append(new.name)
        replace(old, new)

    def removed(path: Path, missing_ok: bool) -> None:
        order.append(path.name)
        unlink(path, missing_ok)

    monkeypatch.setattr(os, "replace", placed)
    monkeypatch.setattr(Path, "unlink", removed)
    for name in ("contract.yaml", "model.onnx", "a.bin"):
        store.put(f"sales_de/1/{name}", "new content")
    mirror.refresh()
    assert order == ["a.bin", "model.onnx", "contract.yaml"]
    order.clear()
    store.delete("sales_de/1/a.bin", "sales_de/1/contract.yaml", "sales_de/1/model.onnx")
    mirror.refresh()
    assert order == ["contract.yaml", "model.onnx", "a.bin"]


def test_half_of_an_upload_is_no_version_until_the_rest_is_there(
    store: InMemoryStore, folder: Path, scratch: Path
) -> None:
    store.upload(scratch, "sales_de", 1)
    store.put("sales_de/2/contract.yaml", store.contents()["sales_de/1/contract.yaml"])
    mirror = mirrored(store, folder, whole=False)
    scanner = Scanner(folder, None, CONTRACTS_ONLY)
    first = scanner.scan(settle=False)
    assert first is not None
    assert [*first.folders[0].present] == [1]
    assert "no such file" in first.folders[0].invalid[2]
    store.put("sales_de/2/model.onnx")
    mirror.refresh()
    second = scanner.scan(settle=False)
    assert second is not None
    assert [*second.folders[0].present] == [1, 2]


@pytest.mark.parametrize("whole", [True, False])
def test_a_store_that_does_not_answer_or_is_suddenly_empty_changes_nothing(
    store: InMemoryStore, folder: Path, scratch: Path, whole: bool
) -> None:
    store.upload(scratch, "sales_de")
    mirror = mirrored(store, folder, whole=whole)
    before = contents(folder)
    store.answers_left = 0
    with pytest.raises(StoreError, match="memory does not answer"):
        mirror.refresh()
    store.answers_left = None
    store.delete(*store.list())
    with pytest.raises(StoreError, match="nothing is there any more; .* stays as it is"):
        mirror.refresh()
    assert contents(folder) == before


def test_a_store_that_is_empty_from_the_start_is_no_fault(store: InMemoryStore, folder: Path, scratch: Path) -> None:
    mirror = mirrored(store, folder)
    store.upload(scratch, "sales_de")
    assert mirror.refresh() == MirrorChange(downloaded=3)


def test_a_version_that_cannot_be_read_is_named_and_left_out_and_all_the_others_come_and_go(
    store: InMemoryStore, folder: Path, scratch: Path
) -> None:
    for name in ("sales_de", "sales_fr"):
        store.upload(scratch, name)
    mirror = mirrored(store, folder)
    for name in ("sales_de", "sales_fr"):
        store.upload(scratch, name, 2)
        store.upload(scratch, name, 3)
        store.delete(f"{name}/1/model.onnx")
    store.refused = {"sales_de/2/model.onnx"}
    mirror.refresh()
    key = "sales_de/2/model.onnx"
    assert mirror.faults == {key: f"{URI}/{key}: cannot be read: memory refuses {key}"}
    assert set(contents(folder)) == {path for path in store.contents() if not path.startswith("sales_de/2/")}
    store.refused.clear()
    mirror.refresh()
    assert mirror.faults == {}
    assert contents(folder) == store.contents()


def test_a_store_lost_in_the_middle_leaves_whole_models_only_and_the_next_scan_downloads_the_rest(
    store: InMemoryStore, folder: Path, scratch: Path
) -> None:
    for number in range(20):
        store.upload(scratch, f"sales_{number}")
    store.answers_left = 31
    mirror = Mirror(store, folder, whole=True)
    with pytest.raises(StoreError, match="memory does not answer"):
        mirror.refresh()
    came, there = contents(folder), store.contents()
    models = {path.partition("/")[0] for path in came}
    assert 0 < len(models) < 20
    assert came == {path: content for path, content in there.items() if path.partition("/")[0] in models}
    store.answers_left = None
    mirror.refresh()
    assert contents(folder) == there
    assert not (folder.parent / ".models.mirror" / "draft").exists()


def test_what_changes_while_it_is_read_is_listed_again(store: InMemoryStore, folder: Path, scratch: Path) -> None:
    store.upload(scratch, "sales_de")

    class Written(InMemoryStore):
        """Another client writes right after the object was listed."""

        writes = 1

        def list(self, below: str = "") -> dict[str, Object]:
            listed = super().list(below)
            if self.writes:
                self.writes -= 1
                self.put("sales_de/1/model.onnx", "x" * self.writes)
            return listed

    written = Written()
    written.memory = store.memory
    mirrored(written, folder).close()
    assert contents(folder) == store.contents()


def test_a_version_that_goes_on_changing_is_named_and_the_others_come(
    store: InMemoryStore, folder: Path, scratch: Path
) -> None:
    class Written(InMemoryStore):
        writes = 0

        def list(self, below: str = "") -> dict[str, Object]:
            listed = super().list(below)
            self.writes += 1
            self.put("sales_de/2/model.onnx", "x" * self.writes)
            return listed

    written = Written()
    written.memory = store.memory
    for name in ("sales_de", "sales_fr"):
        store.upload(scratch, name)
    mirror = mirrored(written, folder)
    store.upload(scratch, "sales_fr", 2)
    mirror.refresh()
    assert list(mirror.faults) == ["sales_de/2/model.onnx"]
    assert "changes while it is read" in mirror.faults["sales_de/2/model.onnx"]
    assert set(contents(folder)) == {path for path in store.contents() if not path.startswith("sales_de/2/")}


def test_a_name_that_is_also_a_folder_is_left_out_and_so_is_what_belongs_to_no_model(
    store: InMemoryStore, folder: Path
) -> None:
    for path in ("README.md", "sales_de/1", "sales_de/1/model.onnx"):
        store.put(path)
    mirrored(store, folder)
    assert set(contents(folder)) == {"sales_de/1/model.onnx"}


def test_a_folder_with_foreign_files_is_left_alone(store: InMemoryStore, folder: Path) -> None:
    store.put("sales_de/config.pbtxt")
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("five years")
    with pytest.raises(FolderError, match="has files of another owner, want an empty folder or a mirror of"):
        Mirror(store, folder, whole=True).refresh()
    assert contents(folder) == {"thesis.tex": b"five years"}


def test_a_mirror_of_another_store_or_kind_is_not_taken_over(store: InMemoryStore, folder: Path) -> None:
    store.put("sales_de/config.pbtxt")
    mirrored(store, folder, whole=False).close()
    with pytest.raises(FolderError, match=f"is a mirror of {URI} contracts, want .* {URI} whole"):
        Mirror(store, folder, whole=True).refresh()
    other = InMemoryStore()
    other.uri = "s3://models/us"
    other.put("sales_us/config.pbtxt")
    with pytest.raises(FolderError, match=f"is a mirror of {URI} contracts, want .* s3://models/us contracts"):
        Mirror(other, folder, whole=False).refresh()
    assert set(contents(folder)) == {"sales_de/config.pbtxt"}


def test_two_processes_do_not_keep_one_folder(store: InMemoryStore, folder: Path) -> None:
    store.put("sales_de/config.pbtxt")
    first, second = mirrored(store, folder), Mirror(store, folder, whole=True)
    with pytest.raises(FolderError, match="another process keeps it in step"):
        second.refresh()
    first.close()
    assert second.refresh() == MirrorChange()


PATHS = [f"{model}/{rest}" for model in "ab" for rest in ("config.pbtxt", "1/contract", "1/m", "2/m", "2/d/x")]
STEPS = st.lists(st.dictionaries(st.sampled_from(PATHS), st.sampled_from([None, "x", "y", "yy"])), max_size=6)


@given(STEPS)
@settings(max_examples=25, deadline=None)
def test_whatever_happens_in_the_store_the_folder_is_the_same_afterwards(steps: list[dict[str, str | None]]) -> None:
    for folder in _temporary():
        store = InMemoryStore()
        store.put("stays/config.pbtxt")
        mirror = mirrored(store, folder)
        for step in steps:
            for path, content in step.items():
                if content is not None:
                    store.put(path, content)
                elif path in store.list():
                    store.delete(path)
            mirror.refresh()
            assert contents(folder) == store.contents()
            assert {path for path in folder.rglob("*") if path.is_dir() and not any(path.iterdir())} == set()
        mirror.close()


def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name) / "models"
