"""examples/ct: volumes by a reader of another package, answered in parts with a running summary, or refused."""

from __future__ import annotations

import gzip
import json
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.readers import registry
from jobs.readers.base import ReadOptions, read_rows
from jobs.readers.errors import SourceError
from jobs.readers.limits import ReadLimits
from jobs.readers.sources import Sources
from local.environments import ROOT
from triptych_cli.__main__ import main

EXAMPLE = ROOT / "examples/ct"
SIDE, SLICES = 40, 11
BYTES = 352 + 2 * SIDE * SIDE * SLICES


@pytest.fixture(autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The reader's package on the path, with its entry point, as pip leaves it."""
    site = tmp_path_factory.mktemp("site")
    information = site / "ct_reader-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: ct-reader\nVersion: 0.1.0\n")
    (information / "entry_points.txt").write_text("[triptych.readers]\nnifti = ct_reader.nifti:NiftiReader\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.syspath_prepend(EXAMPLE / "reader")
    registry.readers.cache_clear()
    yield
    registry.readers.cache_clear()
    for name in [name for name in sys.modules if name.startswith(("ct_reader", "examples.ct"))]:
        sys.modules.pop(name)


@pytest.fixture
def volume(tmp_path: Path) -> Callable[[str], Path]:
    """A function that writes a small volume."""

    def written(name: str = "ct.nii") -> Path:
        from examples.ct.volume import write_volume

        write_volume(tmp_path / name, SIDE, SLICES)
        return tmp_path / name

    return written


def voxels() -> Any:
    from examples.ct.volume import made_slices

    return np.stack(list(made_slices(SIDE, SLICES)))


def rows_of(file: Path, **limits: int) -> tuple[int, Any]:
    """Number of parts, and all slices of a file."""
    sources = Sources()
    found = sources.find([str(file)])
    reader = registry.readers()[registry.format_of(found)](sources, ReadOptions(limits=ReadLimits(**limits)))
    schema, parts, slices = reader.schema(found[0]), list(reader.parts(found)), list[Any]()
    for part in parts:
        for batch in read_rows(reader, part, schema):
            slices += batch.batch.column("slice").to_pylist()
    return len(parts), np.array(slices, np.int16)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_a_volume_is_read_in_parts_slice_by_slice(volume: Callable[[str], Path], name: str) -> None:
    parts, slices = rows_of(volume(name), part_rows=4, batch_bytes=4000)
    assert parts == 3
    assert np.array_equal(slices, voxels())


def test_a_volume_is_answered_with_a_summary_of_all_slices(
    volume: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {
        "apiVersion": "triptych.dev/v1",
        "kind": "Batch",
        "model": "ct_slices",
        "home": {"repository": str(EXAMPLE / "model-repository")},
        "read": {"uri": str(volume("ct.nii"))},
        "write": {"parquet": str(tmp_path / "slices")},
        "limits": {"partRows": 4},
    }
    (tmp_path / "ct.yaml").write_text(json.dumps(document))
    assert main(["batch", "run", str(tmp_path / "ct.yaml"), "--quiet"]) == 0
    manifest = json.loads((tmp_path / "slices/_manifest.json").read_text())
    summary, bone = manifest["summary"], (voxels() > 300).sum()
    assert (manifest["rows"], manifest["parts"]) == (SLICES, 3)
    assert summary["bone_ml"]["sum"] == pytest.approx(bone * 0.001, rel=1e-6)
    assert summary["peak_hu"] == {"max": float(voxels().max()), "rows": SLICES}
    assert summary["mostly"] == {"vote": "air", "votes": {"air": SLICES}, "rows": SLICES}
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2
    assert shown[1].startswith("summary: sum of bone_ml ")
    assert shown[1].endswith(f"vote of mostly air ({SLICES} of {SLICES})")


def changed(file: Path, place: int, form: str, *values: Any) -> Path:
    content = bytearray(file.read_bytes())
    struct.pack_into(form, content, place, *values)
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("place", "form", "values", "says"),
    [
        (0, "<i", (0,), "want a volume of NIfTI-1 in one file, little-endian, got size 0"),
        (344, "4s", (b"ni1\0",), "got size 348 and magic b'ni1"),
        (40, "<h", (4,), None),  # a fourth dimension of 1
        (40, "<6h", (4, 40, 40, 11, 3, 1), "want one volume of 3 dimensions, got [40, 40, 11, 3]"),
        (40, "<h", (-1,), "want one volume of 3 dimensions"),
        (40, "<h", (2,), "want one volume of 3 dimensions"),
        (42, "<h", (-40,), "want 1 to 8192 voxels a side, got -40 x 40 x 11"),
        (42, "<3h", (8192, 8192, 8192), "8192 x 8192 x 8192 voxels are 1099511628128 bytes, over 68719476736"),
        (42, "<h", (41,), f"want {352 + 2 * 41 * 40 * 11} bytes for 41 x 40 x 11 voxels, got {BYTES}: truncated"),
        (46, "<h", (10,), "longer than its header says"),
        (70, "<h", (16,), "want voxels of int16 (datatype 4), got datatype 16"),
        (80, "<f", (float("nan"),), "want voxels of more than 0 and less than 1000 mm"),
        (108, "<f", (1e9,), "want voxels from byte 352 to 1048576 on, got 1e+09"),
        (108, "<f", (float("nan"),), "want voxels from byte 352"),
        (112, "<f", (2.0,), "want Hounsfield units without a scale, got slope 2"),
    ],
)
def test_a_wrong_header_is_refused_with_what_was_wanted(
    volume: Callable[[str], Path], place: int, form: str, values: Any, says: str | None
) -> None:
    file = changed(volume("ct.nii"), place, form, *values)
    if says is None:
        assert len(rows_of(file)[1]) == SLICES
        return
    with pytest.raises(SourceError) as refused:
        rows_of(file)
    assert says in str(refused.value)


@pytest.mark.parametrize("kept", [0, 100, 352, 5000, BYTES - 1])
def test_a_truncated_volume_is_refused(volume: Callable[[str], Path], kept: int) -> None:
    file = volume("ct.nii")
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(SourceError, match="truncated|want a header"):
        rows_of(file)


@pytest.mark.parametrize("kept", [1, 20, 3000, -1])
def test_a_truncated_packed_volume_is_refused(volume: Callable[[str], Path], kept: int) -> None:
    file = volume("ct.nii.gz")
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(SourceError, match="truncated|cannot be unpacked|want a header|want a volume"):
        rows_of(file)


def test_a_damaged_packed_volume_is_refused(volume: Callable[[str], Path]) -> None:
    file = volume("ct.nii.gz")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(SourceError, match="cannot be unpacked|cannot be read|truncated|more bytes"):
        rows_of(file)


def test_a_bomb_is_refused_before_it_is_unpacked(volume: Callable[[str], Path], tmp_path: Path) -> None:
    header = changed(volume("ct.nii"), 42, "<3h", 512, 512, 400).read_bytes()[:352]
    file = tmp_path / "bomb.nii.gz"
    with gzip.open(file, "wb") as out:
        out.write(header)
        for _ in range(200):
            out.write(bytes(1 << 20))
    assert file.stat().st_size < 1 << 20
    with pytest.raises(SourceError, match=r"bytes of \d+ packed ones \(limits.maxUnpackedRatio\)"):
        rows_of(file)


def test_bytes_behind_the_last_slice_are_no_more_than_noticed(volume: Callable[[str], Path], tmp_path: Path) -> None:
    plain, file = volume("ct.nii").read_bytes(), tmp_path / "more.nii.gz"
    with gzip.open(file, "wb") as out:
        out.write(plain)
        out.write(bytes(50 << 20))
    with pytest.raises(SourceError, match="truncated|more bytes"):
        rows_of(file)
    with file.open("wb") as out:  # a second member, whose size at the end is that of a whole volume
        out.write(gzip.compress(plain) + gzip.compress(plain))
    with pytest.raises(SourceError, match=f"has more bytes than the {BYTES} of {SIDE} x {SIDE} x {SLICES} voxels"):
        rows_of(file)
