"""An ONNX file against config.pbtxt: a mismatch is named before any load, and weights are not read for it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import onnx_files as onnx
from tests.onnx_files import linear
from triptych.contract.verification import onnx_file
from triptych.contract.verification.onnx_file import NotOnnx, Tensor, check_model_file, read_header
from triptych.contract.verification.triton_config import parse_config

CONFIG = """\
name: "m"
backend: "onnxruntime"
max_batch_size: 4
input [{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }]
"""


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., list[str]]:
    """The problems of a file under a configuration in which some words are others."""

    def problems(data: bytes, *changes: tuple[str, str]) -> list[str]:
        text = CONFIG
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / "model.onnx").write_bytes(data)
        return check_model_file(parse_config(text), tmp_path)

    return problems


@pytest.mark.parametrize(
    "data",
    [
        linear(),
        linear(declared="columns"),
        linear(weights_as_input=True),  # a file of before 2020 lists weights among the inputs
        linear(output_shape=("n", "m")),
        onnx.model(b"".join(onnx.field(n, onnx.value(name, onnx.FLOAT, None)) for n, name in ((11, "x"), (12, "y")))),
        b"....ORTM and more",
    ],
)
def test_a_file_that_fits_or_says_nothing_is_no_problem(check: Callable[..., list[str]], data: bytes) -> None:
    assert check(data) == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (linear(5), "input 'x' has dims [?, 5], but [-1, 2] in config.pbtxt with the rows in front"),
        (
            linear(rows=1),
            "input 'x' has dims [1, 2], a fixed batch of 1, but max_batch_size above 0 joins requests: "
            "export it with an open first dimension, or want 0",
        ),
        (linear(rows=4), "a fixed batch of 4"),  # onnxruntime_backend#111, triton#2387
        (linear(datatype=onnx.DOUBLE), "input 'x' is FP64, but FP32 in config.pbtxt"),
        (linear(datatype=onnx.STRING), "input 'x' is BYTES, but FP32 in config.pbtxt"),
        (linear(datatype=99), "input 'x' is type 99 of ONNX, but FP32"),
        (linear(output_datatype=onnx.INT64), "output 'y' is INT64, but FP32 in config.pbtxt"),
        (linear(2, 3), "output 'y' has dims [?, 3], but [-1, 2]"),
        (linear(output_shape=(1, 2)), "output 'y' has dims [1, 2], a fixed batch of 1"),  # onnxruntime_backend#220
        (linear(output_shape=("n",)), "output 'y' has dims [?], but [-1, 2]"),
        (linear(output_shape=()), "output 'y' has dims [], but [-1, 2]"),
        (linear(names=("X", "y")), "has no input 'x', which config.pbtxt declares; there are: X"),
        (linear(names=("x", "z")), "has no output 'y', which config.pbtxt declares; there are: z"),
        (linear(inputs=[onnx.value("mask", onnx.INT64, ("n", 2))]), "input 'mask' is not declared in config.pbtxt"),
        (
            onnx.model(onnx.field(11, onnx.value("x", onnx.FLOAT, None)) + onnx.field(12, onnx.sequence("y"))),
            "output 'y' is no tensor but a sequence or a map",
        ),
    ],
)
def test_a_mismatch_is_named(check: Callable[..., list[str]], data: bytes, problem: str) -> None:
    found = check(data)
    assert problem in found[0]
    assert found[0].startswith("model.onnx:1: ")


def test_without_batching_too_a_fixed_batch_takes_so_many_rows_only(check: Callable[..., list[str]]) -> None:
    wide = ("dims: [ 2 ]", "dims: [ -1, 2 ]")
    found = check(linear(rows=1), ("max_batch_size: 4", "max_batch_size: 0"), wide, wide)
    assert found == [
        f"model.onnx:1: {tensor} has dims [1, 2], but [-1, 2] in config.pbtxt" for tensor in ("input 'x'", "output 'y'")
    ]


def test_dims_that_triton_reshapes_are_those_that_the_file_has_to_have(check: Callable[..., list[str]]) -> None:
    reshaped = ("dims: [ 2 ] }", "dims: [ 2 ] reshape { shape: [ 1, 2 ] } }")
    assert "has dims [?, 2], but [-1, 1, 2]" in check(linear(), reshaped)[0]


@pytest.mark.parametrize(("old", "tensor"), [("x", "input 'x'"), ("y", "output 'y'")])
def test_a_dimension_of_the_file_cannot_be_left_open(check: Callable[..., list[str]], old: str, tensor: str) -> None:
    """NVIDIA's backend refuses it at the load (CompareDimsSupported)."""
    left_open = (f'name: "{old}" data_type: TYPE_FP32 dims: [ 2 ]', f'name: "{old}" data_type: TYPE_FP32 dims: [ -1 ]')
    assert check(linear(), left_open) == [
        f"model.onnx:1: {tensor} has dims [?, 2], but [-1, -1] in config.pbtxt with the rows in front"
    ]


def test_the_platform_says_what_the_file_is_where_no_backend_is_named(check: Callable[..., list[str]]) -> None:
    platform = ('backend: "onnxruntime"', 'platform: "onnxruntime_onnx"')
    assert "has dims [?, 5]" in check(linear(5), platform)[0]


def test_another_backend_and_a_missing_file_are_not_read(check: Callable[..., list[str]], tmp_path: Path) -> None:
    assert check(b"nothing", ("onnxruntime", "python")) == []
    (tmp_path / "model.onnx").unlink()
    os.mkfifo(tmp_path / "model.onnx")  # which nobody opens
    config = parse_config(CONFIG)
    assert check_model_file(config, tmp_path) == []


@pytest.mark.parametrize(
    "data",
    [
        b"onnx",
        b"",
        b"\x08",
        b"\x3a\xff\xff\xff\xff\x0f",
        b"\x3a" + b"\xff" * 20,
        linear()[:-3],
        linear()[:40],
        bytes(1),
        bytes(100),
    ],
)
def test_what_is_no_onnx_file_or_not_whole_is_named(check: Callable[..., list[str]], data: bytes) -> None:
    assert "is no ONNX model, or not whole: " in check(data)[0]


def test_any_prefix_and_any_flipped_byte_ends_in_a_header_or_a_sentence() -> None:
    good = linear(5)
    for at in range(len(good)):
        for data in (good[:at], good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :]):
            try:
                read_header(io.BytesIO(data))
            except NotOnnx:
                continue


def test_weights_of_gigabytes_are_skipped(tmp_path: Path) -> None:
    class Counted(io.FileIO):
        came = 0

        def read(self, size: int = -1) -> bytes:  # type: ignore[override]
            data = super().read(size) or b""
            Counted.came += len(data)
            return data

    weight = onnx.field(8, b"w") + onnx.varint(9 << 3 | 2) + onnx.varint(4 << 30)
    body = onnx.varint(5 << 3 | 2) + onnx.varint(len(weight) + (4 << 30)) + weight
    tail = onnx.field(11, onnx.value("x", onnx.FLOAT, ("n", 2))) + onnx.field(12, onnx.value("y", onnx.FLOAT, None))
    head = onnx.varint(7 << 3 | 2) + onnx.varint(len(body) + (4 << 30) + len(tail)) + body
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.write(head)
        file.seek(4 << 30, 1)  # a hole
        file.write(tail)
    with Counted(path) as counted:
        header = read_header(counted)
    assert header.inputs == [Tensor("x", "FP32", (None, 2))]
    assert Counted.came < 1000


def test_a_file_of_endless_small_fields_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "_MAX_FIELDS", 100)
    with pytest.raises(NotOnnx, match="more than 100 fields"):
        read_header(io.BytesIO(onnx.model(bytes([8, 0]) * 100)))


@pytest.mark.parametrize(
    ("location", "place", "size", "problem"),
    [
        ("w.bin", {}, 0, ""),
        ("w.bin", {"length": "16"}, 16, ""),
        ("below/w.bin", {"offset": "4096", "length": "16"}, 4112, ""),
        ("./w.bin", {"length": "16"}, 16, ""),
        ("w.bin", {"length": "16"}, 15, "'w.bin': want at least 16 bytes, got 15; the file is not whole"),
        ("w.bin", {"offset": "4096", "length": "16"}, 4096, "want at least 4112 bytes, got 4096"),
        ("w.bin", {"length": "many"}, 0, ""),  # onnxruntime names it
        ("gone.bin", {}, 0, "weights are in 'gone.bin': no such file"),
        ("below\\w.bin", {}, 0, "no such file"),
        ("below", {}, 0, "no such file"),
        ("", {}, 0, "weights are in '', want a file in the folder of the model file, or below it"),
        ("../w.bin", {}, 16, "weights are in '../w.bin', want a file in the folder of the model file, or below it"),
        ("below/../../w.bin", {}, 16, "want a file in the folder"),
        ("/etc/passwd", {}, 16, "weights are in '/etc/passwd', want a file in the folder"),
        ("w\0.bin", {}, 16, "want a file in the folder"),
    ],
)
def test_weights_beside_the_file_are_there_and_whole(
    check: Callable[..., list[str]], tmp_path: Path, location: str, place: dict[str, str], size: int, problem: str
) -> None:
    (tmp_path / "below").mkdir()
    for path in ("w.bin", "below/w.bin", "../w.bin"):
        (tmp_path / path).write_bytes(bytes(size))
    found = check(onnx.external(location, **place))
    assert len(found) == bool(problem)
    assert all(problem in each for each in found)


def weights(location: str) -> bytes:
    """TensorProto whose values are in another file."""
    return onnx.field(13, onnx.field(1, b"location") + onnx.field(2, location.encode())) + b"\x70\x01"


def attribute(number: int, value: bytes) -> bytes:
    """NodeProto with one attribute, whose value is in the field of a number."""
    return onnx.field(5, onnx.field(1, b"a") + onnx.field(number, value))


def subgraph(*parts: bytes) -> bytes:
    return attribute(6, b"".join(parts))


PLACES: dict[str, bytes] = {
    "a subgraph": onnx.field(1, subgraph(onnx.field(5, weights("../w.bin")))),
    "one of several subgraphs": onnx.field(1, attribute(11, onnx.field(5, weights("../w.bin")))),
    "a subgraph of a subgraph": onnx.field(1, subgraph(onnx.field(1, subgraph(onnx.field(5, weights("../w.bin")))))),
    "an attribute": onnx.field(1, attribute(5, weights("../w.bin"))),
    "an attribute in two pieces": onnx.field(
        1, onnx.field(5, onnx.field(5, weights("../w.bin")[:-2]) + onnx.field(5, b"\x70\x01"))
    ),
    "attributes": onnx.field(1, attribute(10, weights("../w.bin"))),
    "a sparse attribute": onnx.field(1, attribute(22, onnx.field(1, weights("../w.bin")))),
    "sparse attributes": onnx.field(1, attribute(23, onnx.field(2, weights("../w.bin")))),
    "a sparse weight": onnx.field(15, onnx.field(1, weights("../w.bin"))),
    "a large node": onnx.field(1, onnx.field(3, bytes(70_000)) + attribute(5, weights("../w.bin"))),
}


@pytest.mark.parametrize("part", PLACES.values(), ids=PLACES)
def test_weights_in_other_files_are_found_wherever_they_are(check: Callable[..., list[str]], part: bytes) -> None:
    ends = onnx.field(11, onnx.value("x", onnx.FLOAT, ("n", 2))) + onnx.field(12, onnx.value("y", onnx.FLOAT, None))
    (problem,) = check(onnx.model(part + ends))
    assert "weights are in '../w.bin', want a file in the folder" in problem
    assert check(onnx.model(part.replace(b"../w.bin", b"12345678") + ends)) == [
        "model.onnx:1: weights are in '12345678': no such file"
    ]


def test_weights_of_functions_are_found(check: Callable[..., list[str]]) -> None:
    function = onnx.field(25, onnx.field(7, attribute(5, weights("/etc/passwd"))))
    defaults = onnx.field(25, onnx.field(11, onnx.field(5, weights("/etc/group"))))
    problems = check(linear() + function + defaults)
    assert [each.partition("weights are in ")[2][:13] for each in problems] == ["'/etc/passwd'", "'/etc/group',"]


def test_subgraphs_of_any_depth_are_walked_through(check: Callable[..., list[str]]) -> None:
    graph = onnx.field(5, weights("../w.bin"))
    for _ in range(3_000):
        graph = onnx.field(1, subgraph(graph))
    ends = onnx.field(11, onnx.value("x", onnx.FLOAT, ("n", 2))) + onnx.field(12, onnx.value("y", onnx.FLOAT, None))
    assert "'../w.bin'" in check(onnx.model(graph + ends))[0]


def test_weights_behind_a_link_out_of_the_repository_are_named(check: Callable[..., list[str]], tmp_path: Path) -> None:
    outside = tmp_path.parent.parent.parent / f"{tmp_path.name}-outside.bin"
    outside.write_bytes(bytes(16))
    (tmp_path / "w.bin").symlink_to(outside)
    assert "which is a link out of the model repository" in check(onnx.external("w.bin"))[0]
    outside.unlink()


def test_a_second_graph_is_no_way_around_the_first(check: Callable[..., list[str]]) -> None:
    """protobuf joins them."""
    assert check(onnx.external("../w.bin") + linear()) == [
        "model.onnx:1: is no ONNX model, or not whole: it has more than one graph"
    ]


def test_names_and_faults_of_a_file_are_limited(check: Callable[..., list[str]]) -> None:
    many = [onnx.value(f"x{number}", onnx.FLOAT, None) for number in range(2_000)]
    found = check(linear(inputs=many))
    assert (len(found), found[-1]) == (51, "model.onnx:1: and 1950 more faults")
    long = [onnx.value("x" * 60_000, onnx.FLOAT, None)]
    assert len(check(linear(names=("X", "y"), inputs=long))[0]) < 600
    assert "its names have more than 16777216 bytes" in check(linear(inputs=long * 300))[0]
