"""The examples: their files, and their output for a person."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from local import examples, formatting
from local.errors import LocalError

PICTURE = {
    "title": "A digit",
    "model_name": "digits",
    "parameters": {"route": "DE"},
    "inputs": [{"name": "image", "datatype": "BYTES", "files": ["seven.png"]}],
    "expect": {"label": "sieben"},
}
SALES = {
    "title": "A week",
    "model_name": "sales_forecast_de",
    "inputs": [
        {"name": "history", "datatype": "FP32", "data": [[1, 2, 3]]},
        {"name": "promotion", "datatype": "BOOL", "data": [[True, False]]},
    ],
}


def read(folder: Path, *documents: object) -> list[examples.ExampleRequest]:
    (folder / "seven.png").write_bytes(b"a picture")
    (folder / "examples.json").write_text(json.dumps(documents))
    return examples.read(folder / "examples.json")


def test_inputs_have_the_datatype_and_the_rows_they_name(tmp_path: Path) -> None:
    picture, sales = read(tmp_path, PICTURE, SALES)
    assert picture.inputs["image"].tolist() == [b"a picture"]
    assert picture.expect == {"label": "sieben"}
    assert sales.inputs["history"].dtype == np.float32
    assert sales.inputs["promotion"].dtype == np.bool_
    assert sales.inputs["history"].shape == (1, 3)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="missing.png: No such file"):
        read(tmp_path, {**PICTURE, "inputs": [{"name": "i", "datatype": "BYTES", "files": ["missing.png"]}]})
    with pytest.raises(LocalError, match="nowhere.json: No such file"):
        examples.read(tmp_path / "nowhere.json")


def test_a_document_that_is_no_example_is_reported_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="examples.json: not a list of examples: KeyError: 'inputs'"):
        read(tmp_path, {"title": "", "model_name": ""})


def test_the_question_names_the_pictures_and_draws_the_history(tmp_path: Path) -> None:
    picture, sales = read(tmp_path, PICTURE, SALES)
    assert formatting.format_request(picture) == "A digit\n  digits(route=DE)  <-  seven.png"
    assert formatting.format_request(sales) == ("A week\n  sales_forecast_de()  <-  history ▁▄█ (1 to 3); promotion x.")


def test_the_answer_is_in_words(tmp_path: Path) -> None:
    outputs = {
        "label": np.array([[b"sieben", b"eins"]], dtype=np.object_),
        "score": np.array([[0.98, 0.02]], dtype=np.float32),
        "class_id": np.array([[7, 1]], dtype=np.int32),
    }
    shown = formatting.format_answer(examples.ExampleAnswer("digits_de", "1", outputs), 0.0123)
    assert shown == "  -> digits_de version 1, 12.3 ms\n     sieben 98.0 %,  eins 2.0 %"


def test_the_answer_in_numbers_has_every_output() -> None:
    outputs = {"units": np.array([[3, 1, 2]]), "total": np.array([6])}
    shown = formatting.format_answer(examples.ExampleAnswer("sales_forecast_de", "2", outputs), 0.001)
    assert shown.splitlines()[1] == "     units 3 1 2  █▁▄;  total 6"


def test_boxes_and_promotions_are_shown_for_every_row_and_large_numbers_in_full(tmp_path: Path) -> None:
    inputs = [
        {"name": "box", "datatype": "INT32", "data": [[1, 2, 30, 40]]},
        {"name": "promotion", "datatype": "BOOL", "data": [[False, False], [True, False]]},
    ]
    (example,) = read(tmp_path, {**SALES, "inputs": inputs})
    assert formatting.format_request(example).endswith("<-  box 1 2 30 40; promotion .. / x.")
    answer = examples.ExampleAnswer("m", "1", {"total": np.array([12_400_000])})
    assert formatting.format_answer(answer, 0).endswith("total 12400000")


def test_a_flat_curve_is_flat() -> None:
    assert formatting.sparkline(np.zeros(3)) == "▁▁▁"
