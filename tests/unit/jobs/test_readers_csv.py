"""CSV: borders of parts, quotes, encodings, types, and lines that cannot be read."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.readers.errors import SourceError, SourceRefused
from tests.unit.jobs.reading import dataset_of, read_all, rows_of, sizes_of


def written(folder: Path, data: bytes, name: str = "a.csv") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def test_rows_have_the_types_that_the_first_rows_show(tmp_path: Path) -> None:
    file = written(tmp_path, b"n,x,word,is\n1,1.5,a,true\n2,2,b,false\n")
    assert rows_of(dataset_of(file)) == [
        {"n": 1, "x": 1.5, "word": "a", "is": True},
        {"n": 2, "x": 2.0, "word": "b", "is": False},
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [b"", b"\n", b"\n\n\n"])
def test_marks_line_ends_and_empty_lines_at_the_end_are_no_part_of_rows(
    tmp_path: Path, end: bytes, mark: bytes, last: bytes
) -> None:
    file = written(tmp_path, mark + (b"a,b\n1,x\n2,y" + last).replace(b"\n", end))
    for part_rows in (1, 2, 3):
        assert rows_of(dataset_of(file, limits={"part_rows": part_rows})) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_a_quoted_line_break_never_splits_a_row(tmp_path: Path) -> None:
    file = written(tmp_path, b'a,b\n1,"x\ny\n"\n2,"q""\nr"\n3,z\n')
    dataset = dataset_of(file, limits={"part_rows": 1})
    assert sizes_of(dataset) == [1, 1, 1]
    assert [row["b"] for row in rows_of(dataset)] == ["x\ny\n", 'q"\nr', "z"]


@settings(deadline=None, max_examples=60)
@given(
    cells=st.lists(st.text(st.sampled_from('ab,"\n\r é'), max_size=6), min_size=1, max_size=12),
    part_rows=st.integers(1, 4),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_all_that_pythons_csv_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str], part_rows: int, end: str
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["n", "cell"], *enumerate(cells)])
    file = written(tmp_path_factory.mktemp("csv"), text.getvalue().encode())
    dataset = dataset_of(file, types={"cell": pa.string()}, limits={"part_rows": part_rows})
    assert [row["cell"] for row in rows_of(dataset)] == cells


def test_parts_are_bounded_in_bytes_and_rows(tmp_path: Path) -> None:
    file = written(tmp_path, b"a\n" + b"1234567\n" * 1000)
    assert sizes_of(dataset_of(file, limits={"part_bytes": 1024})) == [128] * 7 + [104]
    assert sizes_of(dataset_of(file, limits={"part_rows": 600})) == [600, 400]
    assert len(rows_of(dataset_of(file, limits={"part_bytes": 1024}))) == 1000


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "a.csv: is empty"),
        (b"\xef\xbb\xbf\n", "a.csv: is empty"),
        (b"a,b\n", "a.csv: no row is there"),
        (b"a,b\n1,2\n3\n", "a.csv: line 3: want 2 fields, got 1"),
        (b"a,b\n1,2\n\n3,4\n", "a.csv: line 3: empty line"),
        (b"a\n1\n\n2\n", "a.csv: line 3: empty line"),
        (b'a,b\n1,"2\n3,4\n', "a.csv: line 2: a quote is without its end"),
        (b'a,b\n"1\n",2\n3,4,5\n', "a.csv: line 4: want 2 fields, got 3"),
        (b"a,a\n1,2\n", "a.csv: line 1: the column 'a' is there more than once"),
        (b"1.5,2\n1,2\n", "a.csv: line 1: no header: '1.5' is a number"),
        (b"a,\n1,2\n", "a.csv: line 1: a column has no name"),
        (b"a\rb\r1\r", "a.csv: line 1: has carriage returns without line feeds"),
        ("a,b\n1,ü\n".encode("utf-16"), "a.csv: line 1: is UTF-16 or UTF-32; save it as UTF-8"),
        ("ä,b\n1,2\n".encode("latin-1"), "a.csv: line 1: not UTF-8: byte 0xe4"),
        ("a,b\n1,x\n2,ü\n".encode("latin-1"), "a.csv: line 3: column 'b'"),
        (b"\x1f\x8b\x08\x00", "a.csv: is gzip, no text; unpack it"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_by_file_and_line(
    tmp_path: Path, data: bytes, sentence: str
) -> None:
    file = written(tmp_path, data)
    with pytest.raises(SourceError) as refused:
        rows_of(dataset_of(file, types={"b": pa.string()}))
    assert str(refused.value).removeprefix(f"{tmp_path}/").startswith(sentence)


def test_a_value_of_another_type_is_named_by_line_column_and_value(tmp_path: Path) -> None:
    file = written(tmp_path, b"day,price\n1,2.5\n2,cheap\n")
    with pytest.raises(SourceError, match=r"line 3: column 'price': want float, got 'cheap'"):
        rows_of(dataset_of(file, types={"price": pa.float32()}, columns=("price",)))


def test_bad_lines_are_left_out_and_named_when_they_are_kept(tmp_path: Path) -> None:
    file = written(tmp_path, b"a,b\n1,2\n3\n5,x\n7,8\n\n9,10\n")
    dataset = dataset_of(file, types={"b": pa.int64()}, keep_bad_rows=True, limits={"part_rows": 4})
    good, bad = read_all(dataset)
    assert good == [0, 3, 5]
    assert [(each.row, each.sentence) for each in bad] == [
        (1, "want 2 fields, got 1"),
        (2, "column 'b': want int64, got 'x'"),
        (4, "empty line"),
    ]


def test_the_types_of_the_first_file_hold_for_all(tmp_path: Path) -> None:
    one, two = written(tmp_path, b"a\n1.5\n", "1.csv"), written(tmp_path, b"a\n2\n", "2.csv")
    assert rows_of(dataset_of(one, two)) == [{"a": 1.5}, {"a": 2.0}]
    with pytest.raises(SourceError, match=r"1.csv: line 2: column 'a': want int64, got '1.5'"):
        rows_of(dataset_of(two, one))


@pytest.mark.parametrize(
    ("name", "delimiter", "text"), [("a.csv", ";", "a;b\n1,5;2\n"), ("a.tsv", ",", "a\tb\n1,5\t2\n")]
)
def test_other_delimiters(tmp_path: Path, name: str, delimiter: str, text: str) -> None:
    file = written(tmp_path, text.encode(), name)
    assert rows_of(dataset_of(file, delimiter=delimiter)) == [{"a": "1,5", "b": 2}]


def test_a_line_over_the_limit_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, b"a\n" + b"x" * 2000 + b"\n")
    with pytest.raises(SourceRefused, match=r"line 2: over 1024 bytes without an end \(limits.maxRecordBytes\)"):
        rows_of(dataset_of(file, limits={"max_record_bytes": 1024}))
    assert len(rows_of(dataset_of(file, limits={"max_record_bytes": 2048}))) == 1


def test_the_first_line_is_within_the_sample_and_later_types_are_those_of_the_sample(tmp_path: Path) -> None:
    file = written(tmp_path, b"a" * 2000 + b",b\n" + b"1,2\n" * 600 + b"1,x\n")
    with pytest.raises(SourceRefused, match=r"line 1: over 1024 bytes without an end \(limits.sampleBytes\)"):
        dataset_of(file, limits={"sample_bytes": 1024})
    with pytest.raises(SourceError, match="line 602: column 'b': want int64, got 'x'"):
        rows_of(dataset_of(file, limits={"sample_bytes": 2048}))
    assert rows_of(dataset_of(file))[-1]["b"] == "x"


def test_more_columns_than_the_limit_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, b"a,b,c\n1,2,3\n")
    with pytest.raises(SourceRefused, match=r"3 columns, over 2 \(limits.maxColumns\)"):
        dataset_of(file, limits={"max_columns": 2})
