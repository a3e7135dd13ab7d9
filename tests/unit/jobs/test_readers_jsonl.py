"""JSON Lines: parts, types, broken lines."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.readers.errors import SourceError, SourceRefused
from tests.unit.jobs.reading import dataset_of, read_all, rows_of, sizes_of


def written(folder: Path, data: bytes, name: str = "a.jsonl") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def test_rows_come_back_from_any_parts(tmp_path: Path) -> None:
    rows = [{"n": n, "days": [0.5] * (n % 3), "word": f"ü\n{n}"} for n in range(50)]
    file = written(tmp_path, "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    dataset = dataset_of(file, limits={"part_rows": 7})
    assert sizes_of(dataset) == [7] * 7 + [1]
    assert rows_of(dataset) == rows


def test_a_field_that_a_line_lacks_is_null_and_only_wanted_fields_are_read(tmp_path: Path) -> None:
    file = written(tmp_path, b'\xef\xbb\xbf{"a": 1, "b": "x"}\n{"b": "y", "c": {"d": 1}}\n')
    assert rows_of(dataset_of(file, columns=("a", "b"))) == [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]


def test_types_of_the_run_win_over_those_of_the_first_lines(tmp_path: Path) -> None:
    file = written(tmp_path, b'{"x": [1, 2]}\n{"x": [1.5, 3]}\n')
    dataset = dataset_of(file, types={"x": pa.list_(pa.float32())}, limits={"sample_bytes": 1024})
    assert dataset.schema.field("x").type == pa.list_(pa.float32())
    assert rows_of(dataset) == [{"x": [1, 2]}, {"x": [1.5, 3]}]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "a.jsonl: is empty"),
        (b" \n", "a.jsonl: is empty"),
        (b'[{"a": 1}]', "a.jsonl: line 1: is a JSON list; want one object on each line"),
        (b'{"a": 1}\n{"a":\n{"a": 3}\n', "a.jsonl: line 2: not JSON: Expecting value, column 6"),
        (b'{"a": 1}\n\n{"a": 3}\n', "a.jsonl: line 2: empty line"),
        (b'{"a": 1}\n{"a": "x"}\n', "a.jsonl: line 2: column 'a': want int64: "),
        (b'{"a": 1}\n{"a": 2} {"a": 3}\n', "a.jsonl: line 2: not JSON: Extra data, column 10"),
        (b"null\n", "a.jsonl: line 1: want an object, got null"),
        (b'{"a": 1}\n7\n', "a.jsonl: line 2: want an object, got 7"),
        (b'{"a": 1}\n{"a": NaN}\n', "a.jsonl: line 2: not JSON: NaN is no number of JSON"),
        (b'{"a": 1}\n{"a": 99999999999999999999}\n', "a.jsonl: line 2: column 'a': want int64: "),
        (b'{"a": "x"}\n{"a": "\\ud800"}\n', "a.jsonl: line 2: column 'a': want string: "),
        (b'{"a": "\xff"}\n', "a.jsonl: line 1: not UTF-8: byte 0xff"),
        ('{"a": 1}\n'.encode("utf-16"), "a.jsonl: line 1: is UTF-16"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_by_file_and_line(
    tmp_path: Path, data: bytes, sentence: str
) -> None:
    with pytest.raises(SourceError) as refused:
        rows_of(dataset_of(written(tmp_path, data)))
    assert str(refused.value).removeprefix(f"{tmp_path}/").startswith(sentence)


def test_broken_lines_are_left_out_and_named_when_they_are_kept(tmp_path: Path) -> None:
    file = written(tmp_path, b'{"a": 1}\n{"a":\n{"a": "x"}\n{"a": 4}\n\nnull\n{"a": 7}')
    good, bad = read_all(dataset_of(file, keep_bad_rows=True, limits={"part_rows": 2}))
    assert good == [0, 3, 6]
    assert [each.row for each in bad] == [1, 2, 4, 5]
    assert all(each.code == "INVALID_ARGUMENT" and each.sentence for each in bad)


def test_nesting_without_end_is_refused_and_not_followed(tmp_path: Path) -> None:
    file = written(tmp_path, b'{"a": ' + b"[" * 100_000 + b"\n")
    with pytest.raises(SourceError):
        rows_of(dataset_of(file))


def test_a_first_line_over_the_sample_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, json.dumps({"a": "x" * 2000}).encode())
    with pytest.raises(SourceRefused, match=r"line 1: over 1024 bytes without an end \(limits.sampleBytes\)"):
        dataset_of(file, limits={"sample_bytes": 1024})


def test_a_line_over_the_limit_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, json.dumps({"a": "x" * 2000}).encode())
    with pytest.raises(SourceRefused, match=r"line 1: over 1024 bytes without an end \(limits.maxRecordBytes\)"):
        rows_of(dataset_of(file, limits={"max_record_bytes": 1024}))
