"""Small files that become large: each is refused, or read in pieces, before it takes memory."""

from __future__ import annotations

import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.readers.errors import SourceError, SourceRefused
from tests.unit.jobs.reading import dataset_of, rows_of

MIB = 1 << 20


def one_text_many_times(path: Path, text: str, rows: int) -> Path:
    indices = pa.array(np.zeros(rows, np.int32))
    column = pa.DictionaryArray.from_arrays(indices, pa.array([text]))
    pq.write_table(pa.table({"a": column, "n": np.arange(rows)}), path, store_schema=False)
    return path


def test_a_text_that_many_rows_name_is_read_in_pieces(tmp_path: Path) -> None:
    """10 KB that are 1 GiB as texts."""
    file = one_text_many_times(tmp_path / "a.parquet", "x" * MIB, 1_000)
    assert file.stat().st_size < 100_000
    dataset, count = dataset_of(file, limits={"batch_bytes": 4 * MIB}), 0
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    for part in dataset.parts():
        for batch in dataset.read(part):
            count += batch.batch.num_rows
            assert batch.batch.schema.field("a").type == pa.string()
            assert pool.bytes_allocated() - before < 64 * MIB
    assert count == 1_000


def test_a_row_whose_text_is_too_long_is_refused(tmp_path: Path) -> None:
    file = one_text_many_times(tmp_path / "a.parquet", "x" * 5_000, 10)
    with pytest.raises(SourceRefused, match=r"5000 bytes of text, over 4096 \(limits.maxRecordBytes\)"):
        rows_of(dataset_of(file, limits={"max_record_bytes": 4_096}))


def test_texts_of_a_dictionary_are_those_that_were_written(tmp_path: Path) -> None:
    table = pa.table({"a": ["x", None, "yy", "x", None, ""] * 50, "b": [b"1", b"", None] * 100, "n": np.arange(300)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    assert rows_of(dataset_of(tmp_path / "a.parquet", limits={"batch_bytes": 1024})) == table.to_pylist()
    nothing = pa.table({"a": pa.array([None, None], pa.string())})
    pq.write_table(nothing, tmp_path / "b.parquet")
    assert rows_of(dataset_of(tmp_path / "b.parquet")) == nothing.to_pylist()


def test_a_list_of_one_number_many_times_counts_as_it_is_read(tmp_path: Path) -> None:
    """600 bytes that are 8 MB."""
    numbers = pa.ListArray.from_arrays(pa.array([0, MIB], pa.int32()), pa.array(np.zeros(MIB, np.int64)))
    pq.write_table(pa.table({"a": numbers}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    with pytest.raises(SourceRefused, match=r"row group 0: \d{7} bytes, over 1048576 \(limits.maxRowGroupBytes\)"):
        rows_of(dataset_of(tmp_path / "a.parquet", limits={"max_row_group_bytes": MIB}))
    assert len(rows_of(dataset_of(tmp_path / "a.parquet"))) == 1


def file_of(path: Path, batch: Any, options: Any) -> Path:
    with pa.OSFile(f"{path}.arrow", "wb") as file, pa.ipc.new_file(file, batch.schema, options=options) as made:
        made.write_batch(batch)
    return Path(f"{path}.arrow")


def stream_of(path: Path, batch: Any, options: Any) -> Path:
    with pa.OSFile(f"{path}.arrows", "wb") as file, pa.ipc.new_stream(file, batch.schema, options=options) as made:
        made.write_batch(batch)
    return Path(f"{path}.arrows")


Write = Callable[[Path, Any, Any], Path]
both_forms = pytest.mark.parametrize("write", [file_of, stream_of])
ZEROS = pa.record_batch({"a": np.zeros(MIB, np.int64)})
TEXTS = pa.record_batch({"a": pa.DictionaryArray.from_arrays(np.zeros(2, np.int32), pa.array(["x" * 8 * MIB]))})


@both_forms
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("batch", [ZEROS, TEXTS], ids=["numbers", "a dictionary"])
def test_a_compressed_message_is_refused_before_it_is_unpacked(
    tmp_path: Path, write: Write, compression: str, batch: Any
) -> None:
    file = write(tmp_path / "a", batch, pa.ipc.IpcWriteOptions(compression=compression))
    dataset = dataset_of(file, limits={"max_row_group_bytes": MIB})
    pool = pa.default_memory_pool()
    before = pool.total_bytes_allocated()
    with pytest.raises(
        SourceRefused, match=r"(record batch|dictionary) 0: 83\d{5} bytes, over 1048576 \(limits.maxRowGroupBytes\)"
    ):
        list(dataset.parts())
    assert pool.total_bytes_allocated() - before < MIB
    assert len(rows_of(dataset_of(file))) == batch.num_rows


@both_forms
def test_a_buffer_that_says_more_than_there_is_memory_is_refused(tmp_path: Path, write: Write) -> None:
    file = write(tmp_path / "a", ZEROS, pa.ipc.IpcWriteOptions(compression="zstd"))
    data = file.read_bytes()
    said = struct.pack("<q", ZEROS.nbytes)
    assert data.count(said) == 1
    file.write_bytes(data.replace(said, struct.pack("<q", 1 << 60)))
    with pytest.raises(SourceRefused, match=f"{1 << 60} bytes, over 1073741824"):
        list(dataset_of(file).parts())


@pytest.mark.parametrize(
    ("write", "places"), [(file_of, slice(-40, -30)), (file_of, slice(-10, -6)), (stream_of, slice(8, 30))]
)
def test_headers_that_lead_anywhere_are_a_sentence(tmp_path: Path, write: Write, places: slice) -> None:
    file = write(tmp_path / "a", ZEROS, pa.ipc.IpcWriteOptions())
    data = bytearray(file.read_bytes())
    data[places] = b"\xff" * len(data[places])
    file.write_bytes(data)
    with pytest.raises(SourceError):
        rows_of(dataset_of(file))


def npy(header: str, body: bytes = b"") -> bytes:
    """A file of numpy with a header of any text."""
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


WRAPPING = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 4294967296, 4294967296)}"
WIDE = "{'descr': '<f16', 'fortran_order': False, 'shape': (1,)}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wraps.npy", npy(WRAPPING)),  # 2**64 bytes of a row were 0, and rows without end were planned
        ("open.npy", npy("{'descr': (((")),
        ("wide.npy", npy(WIDE, bytes(16))),
        ("header.csv", b'"' + b"x" * 200_000 + b'",b\n1,2\n'),
        ("columns.csv", b",".join(b"c%d" % n for n in range(90_000)) + b"\n"),  # each was compared with all others
        ("columns.jsonl", b"\n".join(b'{"k%d":1}' % n for n in range(20_000))),  # each was looked for in each line
        ("deep.jsonl", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"),
    ],
)
def test_a_small_file_that_is_odd_is_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=name):
        rows_of(dataset_of(tmp_path / name))


def tar_header(name: str, size_bytes: int, kind: bytes) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size_bytes, kind
    return member.tobuf(tarfile.USTAR_FORMAT)


def block(content: bytes) -> bytes:
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


PICTURE = tar_header("a.png", 1, tarfile.REGTYPE) + block(b"a") + bytes(2 * tarfile.BLOCKSIZE)
PAX, LONG_NAME = tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME


def test_a_header_of_a_tar_that_says_gigabytes_is_not_read(tmp_path: Path) -> None:
    for kind in (PAX, LONG_NAME):
        file = tmp_path / f"{kind.decode()}.tar"
        with file.open("wb") as made:
            made.write(tar_header("x", 4 << 30, kind))
            made.truncate(5 << 30)  # of nothing
        with pytest.raises(SourceRefused, match=r"a header of 4294967296 bytes, over 1048576"):
            rows_of(dataset_of(file))


def test_thousands_of_headers_for_one_entry_of_a_tar_are_a_sentence(tmp_path: Path) -> None:
    named = {PAX: b"14 path=a.png\n", LONG_NAME: b"a.png\0"}
    for kind, content in named.items():
        file = tmp_path / f"{kind.decode()}.tar"
        link = tar_header("x", len(content), kind) + block(content)
        file.write_bytes(link + PICTURE)
        assert [row["name"] for row in rows_of(dataset_of(file))] == ["a.png"]
        file.write_bytes(link * 3_000 + PICTURE)
        with pytest.raises(SourceError, match="no archive that can be read"):
            rows_of(dataset_of(file))


@pytest.mark.parametrize("name", ["a.zip", "a.npz"])
def test_a_directory_of_a_zip_that_says_gigabytes_is_not_read(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("a.png" if name == "a.zip" else "a.npy", b"x")
    data = (tmp_path / name).read_bytes()
    start, size_bytes = data.index(b"PK\x01\x02"), 2_500_000_000
    with (tmp_path / name).open("wb") as made:
        made.write(data[:start])
        made.seek(start + size_bytes)
        made.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, size_bytes, start, 0))
    with pytest.raises(SourceRefused, match=rf"{name}: has a directory of 2500000000 bytes, over 33554432"):
        rows_of(dataset_of(tmp_path / name))
