"""Files of ModelInferRequest: parts, every datatype, and files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import proto  # type: ignore[attr-defined]
from tritonclient.grpc import service_pb2 as pb

from jobs.readers.errors import SourceError, SourceRefused
from tests.unit.jobs.reading import dataset_of, rows_of, sizes_of
from triptych.protocol.tensors import encode_request


def message(**tensors: Any) -> Any:
    return encode_request(pb.ModelInferRequest(model_name="any"), tensors)


def written(folder: Path, *messages: Any) -> Path:
    with (folder / "a.pbs").open("wb") as file:
        for each in messages:
            proto.serialize_length_prefixed(each, file)
    return folder / "a.pbs"


def test_rows_of_all_messages_come_back_from_any_parts(tmp_path: Path) -> None:
    words = np.array([b"a", "ü".encode()], object)
    one = message(x=np.arange(6, dtype=np.float32).reshape(2, 3), word=words, n=np.array([1, 2], np.int64))
    two = message(x=np.ones((1, 3), np.float32), word=words[:1], n=np.array([3], np.int64))
    dataset = dataset_of(written(tmp_path, one, two, two), limits={"part_rows": 3})
    assert sizes_of(dataset) == [3, 1]
    rows = rows_of(dataset)
    assert [row["n"] for row in rows] == [1, 2, 3, 3]
    assert [row["x"] for row in rows] == [[0, 1, 2], [3, 4, 5], [1, 1, 1], [1, 1, 1]]
    assert [row["word"] for row in rows] == [b"a", "ü".encode(), b"a", b"a"]


def test_typed_contents_are_read_as_raw_ones(tmp_path: Path) -> None:
    request = pb.ModelInferRequest()
    tensor = request.inputs.add(name="x", datatype="INT32", shape=[2, 2])
    tensor.contents.int_contents[:] = [1, 2, 3, 4]
    assert rows_of(dataset_of(written(tmp_path, request))) == [{"x": [1, 2]}, {"x": [3, 4]}]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty"),
        (message(x=np.ones((1, 2), np.float32)).SerializeToString(), "behind its length as a varint"),
        (b"\xff" * 20, "no length of a message"),
        (b"\x05abc", "ends within a message of 5 bytes"),
        (b"\x03\xff\xff\xff", "no ModelInferRequest"),
        (b"\xff\xff\xff\xff\x07", r"over 16777216 \(limits.maxRecordBytes\)"),
    ],
)
def test_a_file_without_messages_is_refused(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "a.pbs").write_bytes(data)
    with pytest.raises(SourceError, match=sentence):
        rows_of(dataset_of(tmp_path / "a.pbs"))


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (message(y=np.ones((1, 2), np.float32)), "message 1: want the inputs x list.*, got y list"),
        (message(x=np.ones((1, 2), np.float64)), "message 1: want the inputs x list.*float.*, got x list.*double"),
        (message(x=np.ones((1, 2), np.float32), y=np.ones(2)), "message 1: the inputs have different numbers of rows"),
        (pb.ModelInferRequest(), "message 1: want inputs"),
    ],
)
def test_a_message_unlike_the_first_is_refused_by_its_number(tmp_path: Path, second: Any, sentence: str) -> None:
    with pytest.raises(SourceRefused, match=sentence):
        rows_of(dataset_of(written(tmp_path, message(x=np.ones((1, 2), np.float32)), second)))
