"""`triptych try`: every value of a request on its way through steps and model, without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from local.environments import ROOT
from tests import onnx_files as onnx
from tests.model_folders import publish
from triptych.contract import Contract, Plan
from triptych.contract.summary import summary
from triptych.contract.trace import trace
from triptych.contract.verification.triton_config import parse_config
from triptych_cli.__main__ import main
from triptych_client.homes.onnx_session import predict_by

DIGITS = str(ROOT / "model-repository/digits_de")
EIGHT = str(ROOT / "examples/data/eight_board.png")


def test_every_step_and_the_answer_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["try", DIGITS, f"image={EIGHT}", "top_k=2"]) == 0
    printed = capsys.readouterr().out
    parts = [line for line in printed.splitlines()[1:] if not line.startswith(" ")]
    assert parts == ["request", "preprocess", "model", "postprocess", "answer"]
    assert "3 resize           picture          UINT8[1,32,32,3]" in printed
    assert "'acht', " in printed.partition("answer")[2]


def test_the_pictures_after_each_step_are_files(tmp_path: Path) -> None:
    assert main(["try", DIGITS, f"image={EIGHT}", "--pictures", str(tmp_path), "--no-model"]) == 0
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names[0] == "preprocess_0_decode_image_picture_0.png"
    assert names[-1] == "preprocess_3_resize_picture_0.png"
    decoded, original = (cv2.imread(str(file)) for file in (tmp_path / names[0], Path(EIGHT)))
    np.testing.assert_array_equal(decoded, original)


def test_a_contract_of_huge_rows_is_refused_before_one_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = publish(tmp_path, "sales_de")
    text = (folder / "contract.yaml").read_text()
    assert "[-1, 2]" in text
    (folder / "contract.yaml").write_text(text.replace("[-1, 2]", f"[-1, {1 << 30}]"))
    assert main(["try", str(tmp_path / "sales_de")]) == 1
    assert f"one row takes {4 << 30} bytes, want at most {64 << 20}" in capsys.readouterr().err


def test_without_data_it_is_a_made_up_row_or_an_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = publish(tmp_path, "sales_de")
    assert main(["try", str(tmp_path / "sales_de")]) == 0
    assert "a made-up row" in capsys.readouterr().out
    with (folder / "contract.yaml").open("a") as contract:
        contract.write("examples: [{name: ones, inputs: {x: [[1, 1]]}, outputs: {y: [[2, 2]]}}]\n")
    assert main(["try", str(tmp_path / "sales_de")]) == 0
    printed = capsys.readouterr().out
    assert "the example 'ones' of the contract" in printed
    assert "FP32[1,2]  2 to 2  [2, 2]" in printed.partition("answer")[2]


def test_pictures_of_different_sizes_are_shown_up_to_the_array_that_they_become() -> None:
    """The steps get lists here, and lazy pictures in the stages."""
    document = {
        **{"apiVersion": "triptych.dev/v1", "kind": "Contract", "family": "lines", "max_rows": 4},
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "preprocess": [
            {"op": "decode_image", "input": "image", "output": "x"},
            {"op": "convert_color", "input": "x", "source": "rgb", "target": "bgr"},
            {"op": "normalize", "input": "x", "scale": 2.0},
            {"op": "pad", "input": "x", "width": 1, "height": 5, "max_width": 20},
        ],
        "model": {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 5, -1, 3]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
        },
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
    }
    files = [bytes(cv2.imencode(".png", np.full((5, width, 3), width, np.uint8))[1]) for width in (3, 7)]
    plan = Plan(Contract.model_validate_json(json.dumps(document)))
    inputs = {"image": np.array(files, object)}
    *_, last = trace(plan, inputs, {}, None)
    np.testing.assert_array_equal(last.values["x"], plan.preprocess(inputs)["x"])
    assert last.values["x"][:, 0, :, 0].tolist() == [[0, 0, 6, 6, 6, 0, 0], [14] * 7]


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        ("language=de", ""),
        ('language="de"', ""),
        ("language=fr", "parameter 'language': want string, one of en, de, got 'fr'"),
        ("top=many", "'top': want int64 from 1, got 'many': "),
    ],
)
def test_a_word_is_the_value_of_a_parameter_that_is_a_string(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, fault: str
) -> None:
    with (publish(tmp_path, "sales_de") / "contract.yaml").open("a") as contract:
        contract.write("parameters:\n  - {name: language, type: string, default: en, choices: [en, de]}\n")
        contract.write("  - {name: top, type: int64, default: 1, minimum: 1}\n")
    assert main(["try", str(tmp_path / "sales_de"), "x=[[1, 2]]", word]) == bool(fault)
    assert fault in capsys.readouterr().err


def test_a_request_can_come_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path, "sales_de")
    (tmp_path / "request.json").write_text(json.dumps({"inputs": {"x": [[1, 2], [3, 4]]}}))
    assert main(["try", str(tmp_path / "sales_de"), str(tmp_path / "request.json")]) == 0
    assert "[3, 3, 7, 7]" in capsys.readouterr().out.partition("answer")[2]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b'\xef\xbb\xbf{"inputs": {"x": [[1, 2]]}}', ""),
        ('{"inputs": {"x": [[1, 2]]}}'.encode("utf-16"), "request.json: is UTF-16; save it as UTF-8"),
        (b'{"inputs": {"\xfc": [[1, 2]]}}', "request.json: not UTF-8: byte 0xfc at"),
        (
            b"[" * 100_000,
            'request.json: want JSON, as in {"inputs": {NAME: [rows]}, "parameters": {...}}: maximum recursion depth',
        ),
    ],
    ids=["byte-order mark", "UTF-16", "Latin-1", "deep"],
)
def test_a_file_of_another_encoding_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, fault: str
) -> None:
    publish(tmp_path, "sales_de")
    (tmp_path / "request.json").write_bytes(data)
    assert main(["try", str(tmp_path / "sales_de"), str(tmp_path / "request.json")]) == bool(fault)
    assert fault in capsys.readouterr().err


def test_text_reaches_the_model_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.onnx").write_bytes(onnx.text_identity())
    models = str(tmp_path / "models")
    assert main(["init", str(tmp_path / "text.onnx"), "--family", "words", "--repository", models]) == 0
    assert main(["try", f"{models}/words", 'x=[["Grün"], [""]]']) == 0
    assert "'Grün', ''" in capsys.readouterr().out.partition("answer")[2]
    assert main(["try", f"{models}/words", "x=Grün"]) == 0
    assert "BYTES[1,1]  'Grün'" in capsys.readouterr().out.partition("answer")[2]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (["x=[[1]]"], "'x': want FP32[n,2], got a list of shape [1, 1]"),
        (["x=[[1, 2"], "'x': want FP32[n,2] in JSON, got '[[1, 2': "),
        (["x=[1, 2]"], "'x': want FP32[n,2], as in [[...]], got a list of shape [2]"),
        (["z=1"], "'z' is no input or parameter of the contract; there are: x"),
        (["x=[[1, 2]]", "word"], "want NAME=VALUE, or one JSON file alone, got 'word'"),
        (["missing.json"], "got 'missing.json', which is no file"),
        (["--version", "3"], "sales_de has no version 3; there are: 1"),
        (["x=[[NaN, 2]]"], "input 'x': want finite values, got row 0: nan"),
    ],
)
def test_wrong_data_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], data: list[str], fault: str) -> None:
    publish(tmp_path, "sales_de")
    assert main(["try", str(tmp_path / "sales_de"), *data]) == 1
    assert fault in capsys.readouterr().err


def test_a_model_that_does_not_run_here_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = publish(tmp_path, "sales_de")
    (folder / "model.onnx").write_bytes(onnx.unloadable(onnx.linear()))
    assert main(["try", str(tmp_path / "sales_de")]) == 1
    assert "NoSuch" in capsys.readouterr().err
    config = tmp_path / "sales_de/config.pbtxt"
    config.write_text(config.read_text().replace("onnxruntime", "tensorrt"))
    assert main(["try", str(tmp_path / "sales_de")]) == 1
    assert "only models of the backend onnxruntime run here, not 'tensorrt'" in capsys.readouterr().err
    assert main(["try", str(tmp_path / "sales_de"), "--no-model"]) == 0


def test_a_folder_that_is_no_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = publish(tmp_path, "sales_de")
    assert main(["try", str(tmp_path / "nothing")]) == 1
    assert f"want a model's folder, as in model-repository/digits_de, got {tmp_path}/nothing, which is no folder" in (
        capsys.readouterr().err
    )
    assert main(["try", str(folder)]) == 1
    assert f"got {folder}, which has no config.pbtxt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.zeros((2, 0), np.float32), "FP32[2,0]"),
        (np.array([[True, False]]), "BOOL[1,2]  [True, False]"),
        (np.arange(9), "INT64[9]  0 to 8  [0, 1, 2, 3, 4, 5, ...]"),
        (np.array([16000]), "INT64[1]  16000 to 16000  [16000]"),
        (np.array([25, np.nan], np.float32), "FP32[2]  25 to 25, 1 NaN  [25, nan]"),
        (np.array([np.nan], np.float32), "FP32[1]  all NaN  [nan]"),
        ([np.zeros((4, 6, 3), np.uint8)], "1 picture: 6x4 uint8"),
    ],
)
def test_a_value_is_a_line(value: object, text: str) -> None:
    assert summary(value) == text


@pytest.mark.parametrize(
    ("shape", "dims", "sent"),
    [
        ((), "dims: [ 1 ]", (1,)),
        ((2, "n", 3), "dims: [ 1, 2, -1, 3 ] reshape { shape: [ 2, -1, 3 ] }", (1, 2, 4, 3)),
        (("n", "m"), "dims: [ 1, -1, -1 ] reshape { shape: [ -1, -1 ] }", (1, 2, 3)),
        ((1,), "dims: [ 1, 1 ] reshape { shape: [ 1 ] }", (1, 1)),
        ((2, 2), "dims: [ 2, 2 ]", (2, 2)),
    ],
)
def test_a_model_without_batches_gets_the_shapes_of_its_file(
    tmp_path: Path, shape: tuple[Any, ...], dims: str, sent: tuple[int, ...]
) -> None:
    (tmp_path / "model.onnx").write_bytes(onnx.identity(onnx.INT64, *shape))
    tensor = f"data_type: TYPE_INT64 {dims}"
    config = f'backend: "onnxruntime" input [{{ name: "x" {tensor} }}] output [{{ name: "y" {tensor} }}]'
    values = np.arange(np.prod(sent)).reshape(sent)
    answer = predict_by(parse_config(config), tmp_path)({"x": values})
    np.testing.assert_array_equal(answer["y"], values)
