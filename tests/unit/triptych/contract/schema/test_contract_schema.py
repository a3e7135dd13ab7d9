"""Valid and invalid contracts, and their canonical JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from triptych.contract import Contract, Plan, parse_contract
from triptych.contract.specs import InputSpec, ParameterSpec, TensorSpec

Document = dict[str, Any]
Spoil = Callable[[Document], object]


def faults(document: Document) -> str:
    with pytest.raises(ValidationError) as caught:
        Contract.model_validate_json(json.dumps(document))
    return "\n".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in caught.value.errors())


def test_canonical_json_reads_back_as_the_same_contract(digits: Contract, sales: Contract) -> None:
    for contract in (digits, sales):
        again = Contract.model_validate_json(contract.canonical_json())
        assert again == contract
        assert again.canonical_json() == contract.canonical_json()


def test_canonical_json_is_sorted_compact_utf8(digits: Contract) -> None:
    text = digits.canonical_json().decode()
    assert json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False, separators=(",", ":")) == text
    assert "fünf" in text


def test_canonical_json_writes_out_the_defaults_that_decide_something(
    sales: Contract, digits_document: Document
) -> None:
    document = json.loads(sales.canonical_json())
    assert document["inputs"][0]["finite"] is True
    assert document["inputs"][2]["finite"] is False
    assert document["postprocess"][1]["decimals"] == 0
    del digits_document["preprocess"][0]["max_pixels"], digits_document["preprocess"][3]["interpolation"]
    said = json.loads(Contract.model_validate_json(json.dumps(digits_document)).canonical_json())
    assert said["preprocess"][0]["max_pixels"] == 25_000_000
    assert said["preprocess"][3]["interpolation"] == "area"


def test_order_and_comments_of_the_file_do_not_change_the_json(digits: Contract, data: Any) -> None:
    text = (data / "digits_de.yaml").read_text(encoding="utf-8")
    head, tail = text.split("labels:\n")
    moved = parse_contract(("# a comment\nlabels:\n" + tail + head).encode())
    assert moved.canonical_json() == digits.canonical_json()


def test_a_contract_cannot_be_changed(digits: Contract) -> None:
    with pytest.raises(ValidationError):
        digits.route = "FR"  # type: ignore[misc]


def test_signature_leaves_out_what_callers_do_not_see(digits: Contract, digits_document: Document) -> None:
    assert digits.signature() == (
        "inputs: image BYTES[n]; parameters: top_k int64; "
        "outputs: class_id INT32[n,?], label BYTES[n,?], score FP32[n,?]"
    )
    digits_document["route"] = "FR"
    digits_document["labels"]["digit"][0] = "zéro"
    digits_document["inputs"].reverse()
    digits_document["inputs"].append({"name": "hint", "datatype": "FP32", "shape": [-1], "required": False})
    assert Contract.model_validate_json(json.dumps(digits_document)).signature() == digits.signature()


# --- tensors and parameters


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": [3]}, {"shape": []}, {"shape": [-1, 0]}, {"shape": [-1, -2]}, {"shape": [-1, "3"]},
        {"shape": [-1, 2.0]}, {"name": ""}, {"name": "two\nlines"}, {"name": "n" * 129},
        {"datatype": "FP8"}, {"unknown": 1},
    ],
)  # fmt: skip
def test_a_tensor_that_cannot_be_is_refused(wrong: Document) -> None:
    with pytest.raises(ValidationError):
        TensorSpec.model_validate({"name": "x", "datatype": "FP32", "shape": [-1, 3], **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"datatype": "BYTES", "minimum": 0}, {"datatype": "BOOL", "maximum": 1},
        {"datatype": "INT32", "finite": True}, {"datatype": "FP32", "max_bytes": 3}, {"datatype": "FP32", "utf8": True},
        {"datatype": "BYTES", "max_bytes": 0}, {"minimum": 2, "maximum": 1},
        {"minimum": 1, "exclusive_minimum": 1}, {"exclusive_minimum": 1, "maximum": 1},
    ],
)  # fmt: skip
def test_limits_that_do_not_fit_the_datatype_are_refused(wrong: Document) -> None:
    with pytest.raises(ValidationError):
        InputSpec.model_validate({"name": "x", "datatype": "FP32", "shape": [-1], **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"default": 0}, {"default": 11}, {"default": "3"}, {"default": True}, {"default": 2.5},
        {"default": 2**63, "maximum": None}, {"minimum": 9, "maximum": 8, "default": 9},
        {"name": "route"}, {"name": "alias"}, {"name": "traffic_key"}, {"name": "triptych_x"}, {"choices": ["a"]},
        {"type": "string", "default": "a"}, {"type": "bool", "default": True},
        {"type": "string", "default": "c", "choices": ["a", "b"], "minimum": None, "maximum": None},
    ],
)  # fmt: skip
def test_a_parameter_that_contradicts_itself_is_refused(wrong: Document) -> None:
    top_k = {"name": "top_k", "type": "int64", "default": 3, "minimum": 1, "maximum": 10}
    with pytest.raises(ValidationError):
        ParameterSpec.model_validate({**top_k, **wrong})


@pytest.mark.parametrize("name", ["387", "sepal length (cm)", "größe", "特徴", "a/b:0", "x" * 128])
def test_any_name_that_a_model_file_has_can_be_declared(name: str) -> None:
    assert TensorSpec(name=name, datatype="FP32", shape=(-1,)).name == name


# --- consistency between the parts of a contract

NOT_TOGETHER: list[tuple[str, Spoil, str]] = [
    ("lower-case route", lambda d: d.update(route="de"), "route: String should match"),
    ("family with a capital", lambda d: d.update(family="Digits"), "family: String should match"),
    ("another version of the format", lambda d: d.update(apiVersion="v2"), "apiVersion: Input should be"),
    ("no rows", lambda d: d.update(max_rows=0), "max_rows: "),
    ("a field of its own", lambda d: d.update(colour="red"), "colour: Extra inputs"),
    ("input twice", lambda d: d["inputs"].append(d["inputs"][0]), "inputs.2.name: 'image' is declared twice"),
    (
        "a value that is not there",
        lambda d: d["preprocess"][1].update(input="photo"),
        "preprocess.1.input: no value 'photo' at this point; there are: box, image, picture",
    ),
    (
        "a value that comes later",
        lambda d: d["preprocess"].insert(0, d["preprocess"].pop()),
        "preprocess.0.input: no value 'picture'",
    ),
    (
        "an optional input where it must be",
        lambda d: d["preprocess"].append({"op": "cast", "input": "box", "datatype": "FP32"}),
        "preprocess.6.input: input 'box' is optional",
    ),
    (
        "the model's input missing",
        lambda d: d["preprocess"].pop(),
        "model.inputs.0.name: preprocess ends without 'pixels'; there are: box, image, picture",
    ),
    (
        "an output missing",
        lambda d: d["postprocess"].pop(),
        "outputs.0.name: postprocess ends without 'label'",
    ),
    (
        "a value in postprocess that is nowhere",
        lambda d: d["postprocess"][0].update(input="nowhere"),
        "postprocess.0.input: no value 'nowhere' at this point; there are: ",
    ),
    (
        "a label table that is not there",
        lambda d: d["postprocess"][2].update(labels="digits"),
        "postprocess.2.labels: no label table 'digits'; known: digit",
    ),
    (
        "too few labels",
        lambda d: d["labels"]["digit"].pop(),
        "postprocess.2.labels: table 'digit' has 9 labels for 10 classes",
    ),
    (
        "a parameter that is not there",
        lambda d: d["postprocess"][1].update(k={"parameter": "n"}),
        "postprocess.1.k: no parameter 'n'; known: top_k",
    ),
    (
        "a parameter of another type",
        lambda d: d.update(parameters=[{"name": "top_k", "type": "double", "default": 3}]),
        "postprocess.1.k: parameter 'top_k' is double, want int64",
    ),
    (
        "a parameter that may exceed the model",
        lambda d: d["parameters"][0].update(maximum=11),
        "postprocess.1.k: 11 is more than the 10 values of 'probability'",
    ),
    (
        "a parameter that may be zero",
        lambda d: d["parameters"][0].update(minimum=0),
        "postprocess.1.k: the parameter's minimum is 0",
    ),
    (
        "a parameter without a limit",
        lambda d: d["parameters"][0].pop("maximum"),
        "postprocess.1.k: parameter 'top_k' needs a minimum and a maximum",
    ),
    (
        "a constant that exceeds the model",
        lambda d: d["postprocess"][1].update(k=11),
        "postprocess.1.k: 11 is more than the 10 values",
    ),
    (
        "a colour conversion that OpenCV has not",
        lambda d: d["preprocess"][2].update(source="gray"),
        "preprocess.2.target: no conversion from gray to hsv",
    ),
    (
        "scale and offset of different length",
        lambda d: d["preprocess"][4].update(offset=[0, 0]),
        "preprocess.4.offset: 2 numbers, but scale has 3",
    ),
    (
        "a step without a name",
        lambda d: d["preprocess"][0].pop("op"),
        "preprocess.0.op: is missing; known",
    ),
    (
        "a step that nobody knows",
        lambda d: d["preprocess"][2].update(op="foo"),
        "preprocess.2.op: unknown step 'foo'; known: argmax, cast",
    ),
    (
        "a step that is a word",
        lambda d: d["preprocess"].append("resize"),
        "preprocess.6: Value error, a step",
    ),
    ("a field of no step", lambda d: d["preprocess"][3].update(size=3), "preprocess.3.size: Extra inputs"),
    (
        "text for a number",
        lambda d: d["preprocess"][3].update(width="32"),
        "preprocess.3.width: Input should",
    ),
]


@pytest.mark.parametrize(("spoil", "text"), [case[1:] for case in NOT_TOGETHER], ids=[case[0] for case in NOT_TOGETHER])
def test_an_inconsistent_contract_names_the_place(digits_document: Document, spoil: Spoil, text: str) -> None:
    spoil(digits_document)
    assert text in faults(digits_document)


def test_columns_that_do_not_add_up_are_found(sales_document: Document) -> None:
    sales_document["preprocess"][1]["inputs"].pop()
    assert "model.inputs.0.shape: the last dimension of 'features' is 35" in faults(sales_document)


def test_request_parameters_do_not_reach_preprocess(sales_document: Document) -> None:
    sales_document["parameters"] = [{"name": "least", "type": "double", "default": 1.0}]
    step = {"op": "threshold", "input": "history", "output": "high", "minimum": {"parameter": "least"}}
    sales_document["preprocess"].append(step)
    assert "preprocess.2.minimum: request parameters reach postprocess only" in faults(sales_document)


def test_all_faults_are_reported_at_once(digits_document: Document) -> None:
    digits_document["preprocess"][1]["input"] = "photo"
    digits_document["postprocess"][2]["labels"] = "digits"
    assert faults(digits_document).count("\n") >= 1


def test_require_makes_an_optional_input_certain(sales_document: Document) -> None:
    sales_document["inputs"][2]["required"] = False
    assert "preprocess.0.input: input 'promotion' is optional" in faults(sales_document)
    sales_document["preprocess"].insert(0, {"op": "require", "input": "promotion", "default": False})
    Plan(Contract.model_validate_json(json.dumps(sales_document)))


@pytest.mark.parametrize("default", ["yes", 2, [True, False], 0.5])
def test_a_default_that_does_not_fit_the_input_is_refused(sales_document: Document, default: Any) -> None:
    sales_document["inputs"][2]["required"] = False
    sales_document["preprocess"].insert(0, {"op": "require", "input": "promotion", "default": default})
    assert "preprocess.0.default: does not fit BOOL[n,7]" in faults(sales_document)


def test_labels_by_parameter_need_its_choices(digits_document: Document) -> None:
    language: Document = {"name": "language", "type": "string", "default": "digit"}
    digits_document["parameters"].append(language)
    digits_document["postprocess"][2]["labels"] = {"parameter": "language"}
    assert "postprocess.2.labels: parameter 'language' needs choices" in faults(digits_document)
    language["choices"] = ["digit", "english"]
    assert "postprocess.2.labels: no label table 'english'" in faults(digits_document)
