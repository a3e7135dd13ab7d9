"""Arrays of numpy: parts, dtypes, and files that numpy has not written so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.readers.errors import SourceError, SourceRefused
from tests.unit.jobs.reading import dataset_of, rows_of, sizes_of


def saved(folder: Path, array: Any) -> Path:
    np.save(folder / "a.npy", array)
    return folder / "a.npy"


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "i1", "<i8", ">i4", "u1", "<u2", "?"])
def test_every_datatype_comes_back_from_any_parts(tmp_path: Path, dtype: str) -> None:
    array = (np.arange(5 * 6).reshape(5, 2, 3) % 2).astype(dtype)
    dataset = dataset_of(saved(tmp_path, array), limits={"part_rows": 2, "batch_bytes": 1024})
    assert sizes_of(dataset) == [2, 2, 1]
    assert [row["array"] for row in rows_of(dataset)] == array.tolist()
    kind = pa.from_numpy_dtype(np.dtype(dtype).newbyteorder("="))
    assert dataset.schema.field("array").type == pa.list_(pa.list_(kind, 3), 2)


@pytest.mark.parametrize(("array", "rows"), [(np.array(["a", "ü"]), ["a", "ü"]), (np.array([b"a"]), [b"a"])])
def test_texts_are_strings_and_bytes_binary(tmp_path: Path, array: Any, rows: list[Any]) -> None:
    assert [row["array"] for row in rows_of(dataset_of(saved(tmp_path, array)))] == rows


def test_the_arrays_of_an_npz_are_columns(tmp_path: Path) -> None:
    history, price = np.ones((5, 28), np.float32), np.arange(5)
    np.savez(tmp_path / "plain.npz", history=history, price=price)
    np.savez_compressed(tmp_path / "packed.npz", history=history, price=price)
    for name, sizes in (("plain.npz", [2, 2, 1]), ("packed.npz", [5])):
        dataset = dataset_of(tmp_path / name, limits={"part_rows": 2})
        assert sizes_of(dataset) == sizes
        assert [row["price"] for row in rows_of(dataset)] == price.tolist()
        assert dataset.schema.field("history").type == pa.list_(pa.float32(), 28)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([{"a": 1}], object), "want numbers, booleans or text, got object"),
        (np.array([(1, 2)], "i4,i4"), "want numbers, booleans or text, got"),
        (np.array([1 + 2j]), "want numbers, booleans or text, got complex128"),
        (np.asfortranarray(np.ones((3, 2))), "is in Fortran's order"),
        (np.float64(3), "want rows and dimensions above 0"),
        (np.ones((3, 0)), "want rows and dimensions above 0"),
        (np.ones((0, 3)), "no row is there"),
    ],
)
def test_an_array_that_cannot_be_rows_is_refused(tmp_path: Path, array: Any, sentence: str) -> None:
    with pytest.raises(SourceRefused, match=sentence):
        rows_of(dataset_of(saved(tmp_path, array)))


@pytest.mark.parametrize("kept", [0, 5, 60, 200])
def test_a_truncated_array_is_refused(tmp_path: Path, kept: int) -> None:
    file = saved(tmp_path, np.ones((10, 3)))
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(SourceError, match="a.npy: "):
        rows_of(dataset_of(file))


def test_a_header_that_says_more_than_the_file_has_is_refused_at_the_plan(tmp_path: Path) -> None:
    file = saved(tmp_path, np.ones((10, 3)))
    file.write_bytes(file.read_bytes().replace(b"(10, 3)", b"(99, 3)"))
    with pytest.raises(SourceRefused, match=r"want 2376 bytes for \[99, 3\] of float64, got 240: truncated"):
        dataset_of(file)


def test_a_packed_npz_is_bounded(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.random.default_rng(1).random(1000))
    with pytest.raises(SourceRefused, match=r"is packed and larger than a part of 4096 bytes \(limits.partBytes\)"):
        dataset_of(tmp_path / "a.npz", limits={"part_bytes": 4096})
    np.savez_compressed(tmp_path / "b.npz", a=np.zeros(1 << 20))
    with pytest.raises(SourceRefused, match=r"packed ones \(limits.maxUnpackedRatio\)"):
        dataset_of(tmp_path / "b.npz")


def test_arrays_of_different_rows_are_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(3), b=np.ones(4))
    with pytest.raises(SourceRefused, match="array 'b': has 4 rows, 'a' has 3"):
        dataset_of(tmp_path / "a.npz")
