"""Models of scikit-learn, LightGBM and XGBoost: `triptych init --from` serves the answers of their libraries."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local.environments import ROOT, ensure
from triptych.contract import Plan, load_contract
from triptych.contract.verification.repository import validate_repository
from triptych.contract.verification.triton_config import read_config
from triptych_client.homes.onnx_session import predict_by

MODELS = {
    "forest.joblib": ("a forest of scikit-learn", 1e-6),
    "trees.pkl": ("a pipeline of scikit-learn", 1e-5),
    "table.pkl": ("a pipeline over named columns, two of them words", 1e-5),
    "light.txt": ("a model file of LightGBM", 1e-5),
    "lightclass.pkl": ("a classifier of LightGBM in the style of scikit-learn", 1e-5),
    "extreme.json": ("a model file of XGBoost", 1e-5),
    "extremeclass.ubj": ("a classifier of XGBoost", 1e-5),
}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(ensure("converters")), "-W", "ignore", "-m", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    done = run("tests.integration.libraries.library_models", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def init(file: Path, models: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = ("--from", str(file), "--family", "f", "--repository", str(models), "--max-rows", "20", *more)
    return run("triptych_cli", "init", *words)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MODELS, ids=[what for what, _ in MODELS.values()])
def test_the_model_of_a_library_gives_its_answers(files: Path, tmp_path: Path, name: str) -> None:
    done = init(files / name, tmp_path, "--trust-pickle")
    assert done.returncode == 0, done.stderr
    assert validate_repository(tmp_path).problems == []
    known = json.loads((files / f"{name.partition('.')[0]}.answers.json").read_text())
    answer = served(tmp_path / "f", known["inputs"])
    for output, wanted in known["outputs"].items():
        if isinstance(wanted[0], str):
            assert [word.decode() for word in answer[output].ravel()] == wanted
        else:
            np.testing.assert_allclose(answer[output], wanted, rtol=MODELS[name][1], atol=MODELS[name][1])


def served(model: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """The outputs by the contract and ONNX Runtime."""
    plan = Plan(load_contract(model / "1/contract.yaml"))
    kinds = {spec.name: spec.datatype for spec in plan.contract.inputs}
    arrays = {
        name: np.array([[text.encode() for text in row] for row in rows], object)
        if kinds[name] == "BYTES"
        else np.array(rows, np.float32)
        for name, rows in inputs.items()
    }
    predict = predict_by(read_config(model, model.parent)[1], model / "1")
    return plan.postprocess(predict(plan.preprocess(arrays)))


def test_a_pickle_is_read_only_if_it_is_said_to_be_ones_own(files: Path, tmp_path: Path) -> None:
    done = init(files / "trees.pkl", tmp_path)
    assert done.returncode == 1
    assert "trees.pkl: is a pickle, which runs code of whoever made it" in done.stderr
    assert not (tmp_path / "f").exists()
