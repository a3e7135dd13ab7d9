"""Examples in a contract: one that no caller could send, or no step returns, is a fault of the contract."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.contract import ContractError, parse_contract
from triptych.contract.schema.examples import arrays_of, mismatch

CONTRACT = """\
apiVersion: triptych.dev/v1
kind: Contract
family: sales
route: DE
max_rows: 2
inputs:
  - {{name: x, datatype: FP32, shape: [-1, 2], maximum: 10}}
  - {{name: text, datatype: BYTES, shape: [-1], required: false}}
parameters: [{{name: k, type: int64, default: 1, maximum: 3}}]
model:
  inputs: [{{name: x, datatype: FP32, shape: [-1, 2]}}]
  outputs: [{{name: y, datatype: FP32, shape: [-1, 2]}}, {{name: n, datatype: INT8, shape: [-1]}}]
outputs: [{{name: y, datatype: FP32, shape: [-1, 2]}}, {{name: n, datatype: INT8, shape: [-1]}}]
examples:
  - {{name: a, {example}}}
"""
GOOD = "inputs: {x: [[1, 2]]}, outputs: {y: [[1, 2]]}"


def parse(example: str) -> str:
    try:
        parse_contract(CONTRACT.format(example=example).encode())
    except ContractError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "example",
    [
        GOOD,
        "inputs: {x: [[1, 2], [3, 4.5]], text: [a, {base64: /w==}]}, outputs: {n: [1, -128]}, parameters: {k: 2}",
    ],
)
def test_a_good_example_is_no_fault(example: str) -> None:
    assert parse(example) == ""


@pytest.mark.parametrize(
    ("example", "fault"),
    [
        ("inputs: {x: [[1, 2, 3]]}, outputs: {y: [[1, 2]]}", "'x': want FP32[n,2], got a list of shape [1, 3]"),
        ("inputs: {x: [[1, 2], [3]]}, outputs: {y: [[1, 2]]}", "lists at the same depth differ in their lengths"),
        ("inputs: {x: [[1, yes]]}, outputs: {y: [[1, 2]]}", "'x': want FP32, got 'yes'"),
        ("inputs: {x: [[1, true]]}, outputs: {y: [[1, 2]]}", "'x': want FP32, got True"),
        ("inputs: {x: [[1, 11]]}, outputs: {y: [[1, 2]]}", "input 'x': want"),
        ("inputs: {z: [[1, 2]]}, outputs: {y: [[1, 2]]}", "'z' is none of x, text"),
        ("inputs: {text: [a]}, outputs: {y: [[1, 2]]}", "input 'x': want FP32[n,2], got nothing"),
        ("inputs: {x: [[1, 2], [1, 2], [1, 2]]}, outputs: {y: [[1, 2]]}", "want 1 to 2 rows, got 3"),
        ("inputs: {x: [[1, 2]]}, outputs: {y: [[1, 2], [1, 2]]}", "output 'y': want 1 rows, as the inputs have, got 2"),
        ("inputs: {x: [[1, 2]]}, outputs: {z: [[1, 2]]}", "'z' is none of y, n"),
        ("inputs: {x: [[1, 2]]}, outputs: {n: [128]}", "'n': a value is outside of INT8"),
        ("inputs: {x: [[1, 2]]}, outputs: {n: [1.5]}", "'n': want INT8, got 1.5"),
        ("inputs: {x: [[1, 2]], text: [1]}, outputs: {n: [1]}", "'text': want text or {base64: ...}, got 1"),
        ("inputs: {x: [[1, 2]], text: [{base64: '?'}]}, outputs: {n: [1]}", "'text': base64 cannot be read"),
        (f"{GOOD}, parameters: {{k: 4}}", "parameter 'k': want"),
        (f"{GOOD}, tolerance: -1", "tolerance: want at least 0, got -1"),
        ("inputs: {x: 1}, outputs: {y: [[1, 2]]}", "want a list of rows"),
        (f"{GOOD}}}\n  - {{name: a, {GOOD}", "name: 'a' is used twice"),
    ],
)
def test_a_fault_is_reported_with_its_line_and_place(example: str, fault: str) -> None:
    found = parse(example)
    assert fault in found
    assert "examples[" in found


def test_the_first_value_that_differs_is_named() -> None:
    text = CONTRACT.format(example=GOOD)
    contract = parse_contract(text.encode())
    assert contract.examples is not None
    (example,) = contract.examples
    assert arrays_of(contract.inputs, example.inputs)["x"].tolist() == [[1, 2]]
    assert mismatch(contract.outputs, example, {"y": np.array([[1, 2.0015]], np.float32)}) == ""
    off = {"y": np.array([[1, 2.01]], np.float32)}
    assert mismatch(contract.outputs, example, off).startswith("output 'y'[0,1]: want 2.0")
    assert "got nan" in mismatch(contract.outputs, example, {"y": np.array([[np.nan, 2]], np.float32)})
    assert "want shape [1, 2], got [1, 3]" in mismatch(contract.outputs, example, {"y": np.ones((1, 3), np.float32)})
