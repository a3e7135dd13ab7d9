"""Parquet and Arrow IPC: parts of groups and batches, memory, damaged files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.readers.errors import SourceError, SourceRefused
from tests.unit.jobs.reading import dataset_of, rows_of, sizes_of


def table_of(rows: int) -> Any:
    days = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(rows * 3, dtype=np.float32)), 3)
    return pa.table({"n": np.arange(rows), "days": days, "word": pa.array([f"ü{n}" for n in range(rows)], pa.string())})


def parquet(path: Path, table: Any, group: int) -> Path:
    pq.write_table(table, path.with_suffix(".parquet"), row_group_size=group)
    return path.with_suffix(".parquet")


def arrow(path: Path, table: Any, group: int) -> Path:
    with pa.OSFile(str(path.with_suffix(".arrow")), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=group)
    return path.with_suffix(".arrow")


def stream(path: Path, table: Any, group: int) -> Path:
    with pa.OSFile(str(path.with_suffix(".arrows")), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=group)
    return path.with_suffix(".arrows")


Write = Callable[[Path, Any, int], Path]
every_format = pytest.mark.parametrize("write", [parquet, arrow, stream])


@every_format
@settings(deadline=None, max_examples=15)
@given(rows=st.integers(1, 200), group=st.integers(1, 200), part_rows=st.integers(1, 200))
def test_every_row_is_in_one_part(
    tmp_path_factory: pytest.TempPathFactory, write: Write, rows: int, group: int, part_rows: int
) -> None:
    table = table_of(rows)
    dataset = dataset_of(write(tmp_path_factory.mktemp("data") / "a", table, group), limits={"part_rows": part_rows})
    assert dataset.schema == table.schema
    assert rows_of(dataset) == table.to_pylist()
    parts = list(dataset.parts())
    assert [part.first_row for part in parts] == [sum(part.rows or 0 for part in parts[:n]) for n in range(len(parts))]
    assert max(size for size in sizes_of(dataset) if size is not None) <= min(part_rows, group)


@every_format
def test_only_wanted_columns_are_read_in_their_order(tmp_path: Path, write: Write) -> None:
    dataset = dataset_of(write(tmp_path / "a", table_of(3), 2), columns=("word", "n"))
    assert dataset.schema.names == ["word", "n"]
    assert rows_of(dataset) == [{"word": f"ü{n}", "n": n} for n in range(3)]


@every_format
def test_record_batches_are_bounded_in_bytes(tmp_path: Path, write: Write) -> None:
    dataset = dataset_of(write(tmp_path / "a", table_of(5000), 5000), limits={"batch_bytes": 4096})
    sizes = [batch.batch.nbytes for part in dataset.parts() for batch in dataset.read(part)]
    assert max(sizes) <= 2 * 4096
    assert len(rows_of(dataset)) == 5000


@every_format
def test_a_row_group_over_the_limit_is_refused(tmp_path: Path, write: Write) -> None:
    dataset = dataset_of(write(tmp_path / "a", table_of(5000), 5000), limits={"max_row_group_bytes": 4096})
    with pytest.raises(SourceRefused, match=r"(row group|record batch) 0: \d+ bytes, over 4096 \(limits.maxRow"):
        rows_of(dataset)


@every_format
def test_a_column_of_another_type_is_named(tmp_path: Path, write: Write) -> None:
    one = write(tmp_path / "1", pa.table({"n": pa.array([1], pa.int64())}), 1)
    two = write(tmp_path / "2", pa.table({"n": pa.array([1.5], pa.float64())}), 1)
    with pytest.raises(SourceRefused, match=rf"2{two.suffix}: column 'n' is double, in .*1{two.suffix} it is int64"):
        dataset_of(one, two)


@every_format
def test_a_doubled_column_is_refused(tmp_path: Path, write: Write) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    with pytest.raises(SourceRefused, match="the column 'n' is there more than once"):
        dataset_of(write(tmp_path / "a", table, 1))


@every_format
def test_files_without_rows_are_refused_only_if_no_file_has_any(tmp_path: Path, write: Write) -> None:
    empty, full = write(tmp_path / "1", table_of(0), 1), write(tmp_path / "2", table_of(2), 1)
    assert len(rows_of(dataset_of(empty, full))) == 2
    with pytest.raises(SourceRefused, match="no row is there"):
        rows_of(dataset_of(empty))


@every_format
@pytest.mark.parametrize("kept", [0, 3, 20, 0.5, 0.9])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, write: Write, kept: float) -> None:
    file = write(tmp_path / "a", table_of(1000), 1000)
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(SourceError, match=rf"a{file.suffix}: "):
        rows_of(dataset_of(file))


@every_format
@settings(deadline=None, max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
@example(place=0.123046875, value=1)  # a stream that says more bytes than there is memory
def test_a_changed_byte_ends_in_rows_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, write: Write, place: float, value: int
) -> None:
    file = write(tmp_path_factory.mktemp("data") / "a", table_of(50), 20)
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] = value
    file.write_bytes(data)
    with suppress(SourceError, UnicodeDecodeError):  # the second of the test's own look at strings
        rows_of(dataset_of(file))
