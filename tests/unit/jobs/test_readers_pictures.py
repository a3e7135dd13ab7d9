"""Pictures of folders and archives, and archives that attack."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from jobs.readers.dataset import place_in_file
from jobs.readers.errors import SourceError, SourceRefused
from tests.unit.jobs.reading import dataset_of, read_all, rows_of, sizes_of

Pack = Callable[[Path, Mapping[str, bytes]], Path]


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path.with_suffix(".zip")


def tarred(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path.with_suffix(".tar"), "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path.with_suffix(".tar")


every_archive = pytest.mark.parametrize("pack", [zipped, tarred])
SIX = {f"x/{n}.png": bytes([n]) * 700 for n in range(6)}


def test_the_files_of_a_folder_are_rows_with_their_names(tmp_path: Path) -> None:
    for name, data in SIX.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    dataset = dataset_of(tmp_path, limits={"part_rows": 4, "batch_bytes": 1500})
    assert sizes_of(dataset) == [4, 2]
    assert rows_of(dataset) == [{"name": name.removeprefix("x/"), "image": data} for name, data in SIX.items()]
    assert place_in_file(list(dataset.parts())[1], 1) == (f"{tmp_path}/x/5.png", 0)


@every_archive
def test_the_pictures_of_an_archive_are_rows_and_other_entries_are_left_out(tmp_path: Path, pack: Pack) -> None:
    dataset = dataset_of(pack(tmp_path / "a", {"readme.txt": b"hi", **SIX, "y/": b""}), limits={"part_bytes": 1500})
    assert sizes_of(dataset) == [2, 2, 2]
    assert rows_of(dataset) == [{"name": name, "image": data} for name, data in SIX.items()]


@every_archive
@pytest.mark.parametrize("name", ["../../etc/a.png", "/etc/a.png", "x/../../a.png", "..\\a.png"])
def test_a_name_out_of_the_archive_is_refused(tmp_path: Path, pack: Pack, name: str) -> None:
    with pytest.raises(SourceRefused, match="want a name below the archive, without '..'"):
        rows_of(dataset_of(pack(tmp_path / "a", {**SIX, name: b"x"})))


@every_archive
@pytest.mark.parametrize(
    ("limit", "most", "sentence"),
    [
        ("max_entries", 5, r"more than 5 entries \(limits.maxEntries\)"),
        ("max_unpacked_bytes", 4199, r"more than 4199 bytes unpacked \(limits.maxUnpackedBytes\)"),
    ],
)
def test_an_archive_over_a_limit_is_refused(tmp_path: Path, pack: Pack, limit: str, most: int, sentence: str) -> None:
    file = pack(tmp_path / "a", SIX)
    with pytest.raises(SourceRefused, match=sentence):
        rows_of(dataset_of(file, limits={limit: most}))
    assert len(rows_of(dataset_of(file, limits={limit: most + 1}))) == 6


@every_archive
def test_a_picture_over_the_limit_is_refused(tmp_path: Path, pack: Pack) -> None:
    file = pack(tmp_path / "a", {"a.png": b"x" * 2000})
    with pytest.raises(SourceRefused, match=r"entry 'a.png': 2000 bytes, over 1999 \(limits.maxRecordBytes\)"):
        rows_of(dataset_of(file, limits={"max_record_bytes": 1999}))


def test_an_entry_that_unpacks_to_far_more_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    file = zipped(tmp_path / "bomb", {"a.png": bytes(8 << 20)})
    with pytest.raises(SourceRefused, match=r"entry 'a.png': 8388608 bytes of \d+ packed ones .limits.maxUnpacked"):
        rows_of(dataset_of(file))
    assert len(rows_of(dataset_of(file, limits={"max_unpacked_ratio": 2000}))) == 1


def test_an_entry_that_is_larger_than_it_says_is_refused(tmp_path: Path) -> None:
    file = zipped(tmp_path / "lie", {"a.png": b"x" * 4000})
    data = file.read_bytes().replace((4000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    file.write_bytes(data)
    with pytest.raises(SourceError, match="entry 'a.png': is (damaged|larger than)"):
        rows_of(dataset_of(file))


def test_overlapping_entries_are_bounded_by_their_total(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(range(256)) * 4096)
        for n in range(1, 100):  # all of them name the bytes of the first
            entry = zipfile.ZipInfo(f"{n}.png")
            first = archive.filelist[0]
            entry.file_size, entry.compress_size, entry.CRC = first.file_size, first.compress_size, first.CRC
            entry.compress_type, entry.header_offset = first.compress_type, 0
            archive.filelist.append(entry)
    with pytest.raises(SourceRefused, match="limits.maxUnpackedBytes"):
        sizes_of(dataset_of(tmp_path / "a.zip", limits={"max_unpacked_bytes": 50 << 20}))


@every_archive
def test_an_archive_without_pictures_and_an_empty_one_are_refused(tmp_path: Path, pack: Pack) -> None:
    with pytest.raises(SourceRefused, match="holds no picture; pictures are: .jpg"):
        rows_of(dataset_of(pack(tmp_path / "a", {"a.txt": b"x"})))
    file = pack(tmp_path / "b", {})
    file.write_bytes(b"")
    with pytest.raises(SourceRefused, match="is empty"):
        rows_of(dataset_of(file))


@every_archive
def test_a_truncated_archive_is_refused(tmp_path: Path, pack: Pack) -> None:
    file = pack(tmp_path / "a", SIX)
    file.write_bytes(file.read_bytes()[: 2000 if pack is tarred else -30])
    with pytest.raises(SourceError, match=r"a\.(zip|tar): "):
        rows_of(dataset_of(file))


def test_a_packed_tar_and_an_encrypted_zip_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz") as archive:
        archive.add(__file__, "a.png")
    with pytest.raises(SourceRefused, match="is packed by gzip"):
        rows_of(dataset_of(tmp_path / "a.tar"))
    file = zipped(tmp_path / "b", {"a.png": b"x"})
    data = bytearray(file.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(data)
    with pytest.raises(SourceRefused, match="entry 'a.png': is encrypted"):
        rows_of(dataset_of(file))


@every_archive
def test_a_doubled_name_is_refused(tmp_path: Path, pack: Pack) -> None:
    file = tmp_path / "a.zip"
    if pack is zipped:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.png", b"1")
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("a.png", b"2")
    else:
        file = tmp_path / "a.tar"
        with tarfile.open(file, "w") as members:
            members.addfile(tarfile.TarInfo("a.png"))
            members.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(SourceRefused, match="entry 'a.png': is there more than once"):
        rows_of(dataset_of(file))


@every_archive
def test_an_empty_picture_is_refused_or_left_out_and_named(tmp_path: Path, pack: Pack) -> None:
    file = pack(tmp_path / "a", {"a.png": b"x", "b.png": b"", "c.png": b"z"})
    with pytest.raises(SourceRefused, match="b.png is empty"):
        rows_of(dataset_of(file))
    good, bad = read_all(dataset_of(file, keep_bad_rows=True))
    assert good == [0, 2]
    assert [(each.row, each.sentence) for each in bad] == [(1, "b.png is empty")]
