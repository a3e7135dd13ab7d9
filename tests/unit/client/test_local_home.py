"""Models of a folder, with all that their config.pbtxt and contract can say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests import onnx_files as onnx
from tests.model_folders import publish
from triptych_cli.__main__ import main
from triptych_client import Ask, RequestFailed

TEXTS = """\
apiVersion: triptych.dev/v1
kind: Contract
family: texts
max_rows: 4
inputs:
  - {name: x, datatype: BYTES, shape: [-1], utf8: true}
  - {name: weight, datatype: FP32, shape: [-1]}
parameters:
  - {name: least, type: double, default: 0.0}
model:
  inputs: [{name: x, datatype: BYTES, shape: [-1]}]
  outputs: [{name: y, datatype: BYTES, shape: [-1]}]
postprocess:
  - {op: threshold, input: weight, minimum: {parameter: least}, output: is_heavy}
outputs:
  - {name: y, datatype: BYTES, shape: [-1]}
  - {name: is_heavy, datatype: BOOL, shape: [-1]}
"""


def own_model(folder: Path, contract: str, config: str, file: bytes) -> None:
    """Replace the model `own` by another."""
    version = publish(folder, "own")
    (version / "contract.yaml").write_text(contract)
    (version / "model.onnx").write_bytes(file)
    (version.parent / "config.pbtxt").write_text(f'name: "own"\nbackend: "onnxruntime"\n{config}')


def test_rows_may_be_in_another_dimension_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "file.onnx").write_bytes(onnx.recurrent())
    models = tmp_path / "own"
    assert main(["init", str(tmp_path / "file.onnx"), "--family", "speech", "--repository", str(models)]) == 0
    (model,) = (folder.name for folder in models.iterdir())
    random = np.random.default_rng(0)
    x = random.normal(size=(7, 5, 3)).astype(np.float32)
    h = random.normal(size=(7, 1, 2)).astype(np.float32)
    nested = pa.list_(pa.list_(pa.float32()))
    table = pa.table({"x": pa.array(x.tolist(), nested), "h": pa.array(h.tolist(), nested)})
    with Ask(model, repository=models, max_rows=3) as ask:
        answers = ask(table)
    wanted = [onnx.recurred(row, state[0]) for row, state in zip(x, h, strict=True)]
    np.testing.assert_allclose(np.array(answers["y"].to_pylist())[:, :, 0], wanted, atol=1e-5)


def test_values_go_around_the_model_and_parameters_to_postprocess(tmp_path: Path) -> None:
    config = """\
max_batch_size: 0
input [{ name: "x" data_type: TYPE_STRING dims: [ -1 ] }]
output [{ name: "y" data_type: TYPE_STRING dims: [ -1 ] }]
version_policy { all { } }
"""
    own_model(tmp_path, TEXTS, config, onnx.text_identity())
    words = ["grün", "", "blau", "rot", "x" * 100_000]
    table = pa.table({"x": words, "weight": pa.array([0.5, 1.5, 2.5, 3.5, 4.5], pa.float32())})
    with Ask("own", repository=tmp_path, parameters={"least": 2.0}, text=["y"]) as ask:
        answers = ask(table)
    assert answers["y"].to_pylist() == words
    assert answers["is_heavy"].to_pylist() == [False, False, True, True, True]
    bad = pa.table({"x": [b"ok", b"\xff"], "weight": pa.array([1.0, 1.0], pa.float32())})
    with Ask("own", repository=tmp_path, on_bad_rows="keep") as ask:
        assert [each["error"] and each["error"]["code"] for each in ask(bad).to_pylist()] == [None, "INVALID_ARGUMENT"]


def test_a_model_of_another_backend_is_named(tmp_path: Path) -> None:
    version = publish(tmp_path, "own")
    config = version.parent / "config.pbtxt"
    config.write_text(config.read_text().replace('backend: "onnxruntime"', 'backend: "tensorrt"'))
    (version / "model.plan").write_bytes(b"plan")
    with Ask("own", repository=tmp_path) as ask, pytest.raises(RequestFailed, match="only models of the backend"):
        ask.schema(pa.schema([("x", pa.list_(pa.float32()))]))


@pytest.mark.parametrize("damage", ["model.onnx", "contract.yaml"])
def test_a_version_that_verify_refuses_is_refused_with_its_faults(tmp_path: Path, damage: str) -> None:
    version = publish(tmp_path, "own")
    (version / damage).write_text("damaged")
    with Ask("own", repository=tmp_path) as ask, pytest.raises(RequestFailed, match=damage) as caught:
        ask.schema(pa.schema([("x", pa.list_(pa.float32()))]))
    assert caught.value.code == "FAILED_PRECONDITION"


def test_an_answer_that_postprocess_refuses_is_internal_and_of_its_row(tmp_path: Path) -> None:
    contract = publish(tmp_path, "own") / "contract.yaml"
    before, outputs, after = contract.read_text().rpartition("outputs:")
    contract.write_text(f"{before}postprocess:\n  - {{op: range, input: y, maximum: 9.0}}\n{outputs}{after}")
    table = pa.table({"x": pa.array([[1, 2], [8, 9], [3, 4]], pa.list_(pa.float32()))})
    with Ask("own", repository=tmp_path, on_bad_rows="keep") as ask:
        errors = [answer["error"] for answer in ask(table).to_pylist()]
    assert [error and error["code"] for error in errors] == [None, "INTERNAL", None]
    assert "17" in errors[1]["text"]
