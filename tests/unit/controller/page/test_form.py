"""The form of a contract: what its fields show, and what becomes of what is typed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.page.form import Typed, WrongForm, fields_of, request_of
from triptych.contract import Contract, parse_contract

TEXT = """\
apiVersion: triptych.dev/v1
kind: Contract
family: shop
max_rows: 4
inputs:
  - {name: age, datatype: FP32, shape: [-1, 2]}
  - {name: city, datatype: BYTES, shape: [-1, 1], required: false}
  - {name: "sepal length (cm)", datatype: INT32, shape: [-1], required: false}
parameters:
  - {name: language, type: string, default: "12"}
  - {name: top, type: int64, default: 3, description: how many}
model:
  inputs: [{name: age, datatype: FP32, shape: [-1, 2]}]
  outputs: [{name: y, datatype: FP32, shape: [-1, 2]}]
outputs:
  - {name: y, datatype: FP32, shape: [-1, 2]}
"""
EXAMPLE = """\
examples:
  - name: two
    inputs: {age: [[1, 2], [3, 4]], city: [[Bonn], [Ulm]]}
    parameters: {top: 1}
    outputs: {y: [[1, 2], [3, 4]]}
"""


def contract(more: str = "") -> Contract:
    return parse_contract((TEXT + more).encode())


def typed(texts: dict[str, str] | None = None, **files: Any) -> Typed:
    return Typed(texts or {}, files)


def test_required_inputs_are_made_up_and_parameters_have_their_defaults() -> None:
    values = {field.name: field.value for field in fields_of(contract())}
    assert len(json.loads(values.pop("age"))[0]) == 2
    assert values == {"city": "", "sepal length (cm)": "", "language": "12", "top": "3"}


def test_an_example_fills_the_form() -> None:
    values = {field.name: field.value for field in fields_of(contract(EXAMPLE))}
    assert values["age"] == "[[1, 2], [3, 4]]"
    assert values["city"] == '[["Bonn"], ["Ulm"]]'
    assert values["top"] == "1"


def test_what_was_typed_stays() -> None:
    values = {field.name: field.value for field in fields_of(contract(EXAMPLE), typed({"age": "[[7", "top": ""}))}
    assert (values["age"], values["city"], values["top"]) == ("[[7", "", "")


def test_rows_words_and_files_become_arrays() -> None:
    texts = {"age": "[[1, 2], [3, 4]]", "city": "Bonn\nUlm", "sepal length (cm)": "[5, 6]"}
    inputs, parameters = request_of(contract(), typed(texts | {"language": "12", "top": "2"}))
    assert inputs["age"].tolist() == [[1, 2], [3, 4]]
    assert inputs["city"].tolist() == [[b"Bonn"], [b"Ulm"]]
    assert inputs["sepal length (cm)"].tolist() == [5, 6]
    assert parameters == {"language": "12", "top": 2}
    assert request_of(contract(), typed({"sepal length (cm)": "5"}))[0]["sepal length (cm)"].tolist() == [5]
    inputs, parameters = request_of(contract(), typed({"age": "[[1, 2]]", "city": "not this"}, city=[b"\xff\x00"]))
    assert (inputs["city"].tolist(), parameters) == ([[b"\xff\x00"]], {})


@pytest.mark.parametrize(
    ("field", "text", "sentence"),
    [
        ("age", "[[1, 2", "'age': want JSON"),
        ("age", "[" * 100_000, "'age': want JSON"),
        ("age", "[[1]]", "'age': want FP32[n,2], got a list of shape [1, 1]"),
        ("age", "nine", "'age': want JSON"),
        ("age", "9", "'age': want FP32[n,2], got a list of shape [1, 1]"),
        ("age", "[9, 9]", "'age': want FP32[n,2], as in [[...]], got a list of shape [2]"),
        ("sepal length (cm)", "[1e30]", "'sepal length (cm)'"),
        ("sepal length (cm)", "99999999999", "'sepal length (cm)': a value is outside of INT32"),
        ("top", "many", "'top': want JSON"),
    ],
)
def test_what_is_no_value_is_a_sentence_with_the_name(field: str, text: str, sentence: str) -> None:
    with pytest.raises(WrongForm) as caught:
        request_of(contract(), typed({"age": "[[1, 2]]"} | {field: text}))
    assert sentence in str(caught.value)
