"""`triptych init --from`: what it refuses, and which columns hold text. The answers: test_converted_models.py."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from triptych_cli.__main__ import main
from triptych_cli.init import convert


def init(source: Path, *more: str) -> int:
    return main(["init", "--from", str(source), "--family", "f", "--repository", str(source.parent / "models"), *more])


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("m.pt", b"x", "m.pt: want a file of scikit-learn, LightGBM or XGBoost, by its ending one of .joblib, .json"),
        ("m.pkl", pickle.dumps(1), "m.pkl: is a pickle, which runs code of whoever made it once it is read: add --"),
        ("m.joblib", b"", "m.joblib: is a pickle"),
    ],
)
def test_a_file_of_another_kind_and_a_pickle_of_anybody_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, text: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert init(tmp_path / name) == 1
    assert text in capsys.readouterr().err


def test_a_pickle_is_not_read_without_the_word_for_it(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "m.pkl").write_bytes(pickle.dumps(Evil()))
    assert init(tmp_path / "m.pkl") == 1
    assert not (tmp_path / "ran").exists()
    assert init(tmp_path / "m.pkl", "--trust-pickle") == 1
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (pickle.dumps({"a": 1}), "holds a dict: want a fitted model or pipeline of scikit-learn"),
        (b"no pickle", "cannot be converted: UnpicklingError: "),
        (b"csklearn.tree\nTree\n.", "needs sklearn"),
    ],
)
def test_a_pickle_that_holds_no_model_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, content: bytes, text: str
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    (tmp_path / "m.pkl").write_bytes(content)
    assert init(tmp_path / "m.pkl", "--trust-pickle") == 1
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(("name", "package"), [("m.txt", "lightgbm"), ("m.json", "xgboost"), ("m.ubj", "xgboost")])
def test_a_library_that_is_not_installed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(b"{}")
    assert init(tmp_path / name) == 1
    assert capsys.readouterr().err == f"{tmp_path / name}: needs {package}: pip install {package}\n"
    assert init(tmp_path / f"no-{name}") == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["m.onnx", "--from", "m.pkl"]])
def test_there_is_one_file(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["init", "--family", "f", *words])
    assert ended.value.code == 2
    assert "give either FILE, an ONNX file, or --from" in capsys.readouterr().err


def encoder(*categories: list[Any]) -> Any:
    learned = [np.array(each, object if isinstance(each[0], str) else None) for each in categories]
    return SimpleNamespace(categories_=learned)


@pytest.mark.parametrize(
    ("columns", "indexes"),
    [
        (["b", "a"], [1, 0]),
        ([0, -1], [0, 2]),
        (slice(1, 3), [1, 2]),
        ([False, True, True], [1, 2]),
        (np.array([True, False, True]), [0, 2]),
        ("c", [2]),
    ],
)
def test_columns_of_a_transformer_are_named_in_many_ways(columns: Any, indexes: list[int]) -> None:
    assert convert._indexes(columns, ["a", "b", "c"]) == indexes


def test_the_columns_with_words_are_those_whose_encoder_or_imputer_has_learned_words() -> None:
    imputed = SimpleNamespace(steps=[("impute", SimpleNamespace(statistics_=np.array(["x", 1.5], object)))])
    counted = SimpleNamespace(vocabulary_={"cat": 0})
    parts = [
        ("encode", encoder(["x", "y"], [1, 2]), ["plan", "size"]),
        ("impute", imputed, slice(2, 4)),
        ("count", counted, "note"),
    ]
    names = np.array(["plan", "size", "city", "spend", "note", "rest"])
    first = SimpleNamespace(transformers_=[*parts, ("remainder", "drop", [5])])
    model = SimpleNamespace(steps=[("columns", first), ("model", None)], feature_names_in_=names, n_features_in_=6)
    assert convert._text_columns(model) == [True, False, True, False, True, False]
    assert convert._is_by_name(model)
    alone = SimpleNamespace(steps=[("encode", encoder([1, 2], ["a", "b"]))], n_features_in_=2)
    assert convert._text_columns(alone) == [False, True]
    assert convert._names(alone) == ["column_0", "column_1"]
    assert not convert._is_by_name(alone)
