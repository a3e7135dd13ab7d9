"""The contract against Triton's own configuration."""

from __future__ import annotations

import time
from typing import Any

import pytest

from triptych.contract import Contract
from triptych.contract.verification.triton_config import (
    ConfigError,
    check_config,
    model_file,
    parse_config,
    served_versions,
)

CONFIG = """\
name: "digits_de"
backend: "onnxruntime"
max_batch_size: 64
input [
  { name: "pixels" data_type: TYPE_FP32 dims: [3, 32, 32] }
]
output [
  { name: "logits" data_type: TYPE_FP32 dims: [10] }  # "logits" of ten digits
]
version_policy { all {} }
"""


def test_a_configuration_that_agrees_has_no_problems(digits: Contract) -> None:
    assert check_config(digits, CONFIG, "digits_de") == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name: "digits_de"', 'name: "digits"', "1: name is 'digits', but the folder is 'digits_de'"),
        (
            "max_batch_size: 64",
            "max_batch_size: 32",
            "3: max_batch_size 32 is below the contract's max_rows 64",
        ),
        ('"pixels"', '"pixel"', "4: input 'pixels' of the contract is not declared; there are: pixel"),
        ('"pixels"', '"pixel"', "5: input 'pixel' is not in the contract"),
        ("TYPE_FP32 dims: [3", "TYPE_FP16 dims: [3", "5: input 'pixels' is FP16, but FP32 in the contract"),
        ("[3, 32, 32]", "[3, 28, 28]", "5: input 'pixels' has dims [-1, 3, 28, 28] with the rows in front"),
        ("[3, 32, 32]", "[32, 32]", "5: input 'pixels' has dims [-1, 32, 32] with the rows in front"),
        ("TYPE_FP32 dims: [3", "64 dims: [3", "5: input 'pixels' is of the unknown data_type 64, but FP32"),
        ("[10]", "[11]", "8: output 'logits' has dims [-1, 11] with the rows in front, but [-1, 10]"),
        ("max_batch_size: 64", "max_batch_size: 0", "5: input 'pixels' has dims [3, 32, 32], but"),
        ("max_batch_size: 64", "max_batch: 64", '3: Message type "inference.ModelConfig" has no field'),
    ],
)
def test_each_disagreement_is_reported_with_its_line(digits: Contract, old: str, new: str, problem: str) -> None:
    problems = check_config(digits, CONFIG.replace(old, new), "digits_de")
    assert any(line.startswith(f"config.pbtxt:{problem}") for line in problems), problems


def test_triton_may_allow_more_than_the_contract_allows(digits: Contract) -> None:
    wide = CONFIG.replace("[3, 32, 32]", "[3, -1, -1]").replace(
        "output [", 'output [\n  { name: "embedding" data_type: TYPE_FP32 dims: [64] },'
    )
    optional = 'input [\n  { name: "mask" data_type: TYPE_BOOL dims: [1] optional: true },'
    assert check_config(digits, wide.replace("input [", optional), "digits_de") == []


def test_without_batching_the_rows_are_in_the_dims(digits: Contract) -> None:
    flat = CONFIG.replace("max_batch_size: 64", "max_batch_size: 0")
    flat = flat.replace("[3, 32, 32]", "[-1, 3, 32, 32]").replace("[10]", "[-1, 10]")
    assert check_config(digits, flat, "digits_de") == []


def test_a_fixed_batch_of_1_fits_a_contract_of_one_row(digits_document: Any) -> None:
    single = CONFIG.replace("max_batch_size: 64", "max_batch_size: 0").replace("dims: [", "dims: [ 1,")
    found = check_config(Contract.model_validate({**digits_document, "max_rows": 2}), single, "digits_de")
    assert len(found) == 2
    assert all("has dims [1, " in problem for problem in found)
    assert check_config(Contract.model_validate({**digits_document, "max_rows": 1}), single, "digits_de") == []


def test_triton_calls_bytes_a_string(digits_document: Any) -> None:
    digits_document["model"]["inputs"][0] = {"name": "pixels", "datatype": "BYTES", "shape": [-1, 1]}
    digits_document["preprocess"][-1:] = [
        {"op": "require", "input": "image"},
        {"op": "resize", "input": "picture", "output": "pixels", "width": 1, "height": 1},
    ]
    contract = Contract.model_validate(digits_document)
    config = CONFIG.replace("TYPE_FP32 dims: [3, 32, 32]", "TYPE_STRING dims: [1]")
    assert check_config(contract, config, "digits_de") == []


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", {3}),
        ("version_policy { all {} }", {1, 2, 3}),
        ("version_policy { latest { num_versions: 2 } }", {2, 3}),
        ("version_policy { specific { versions: [1, 9] } }", {1}),
    ],
)
def test_which_versions_triton_serves_follows_its_policy(policy: str, served: set[int]) -> None:
    assert served_versions(parse_config(policy), [1, 2, 3]) == served


def test_the_model_file_follows_backend_or_configuration() -> None:
    assert model_file(parse_config('backend: "onnxruntime"')) == "model.onnx"
    assert model_file(parse_config('backend: "python"')) == "model.py"
    assert model_file(parse_config('backend: "x" default_model_filename: "net.bin"')) == "net.bin"
    assert model_file(parse_config('backend: "x"')) is None


MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"max_batch_size: {'1' * MIB}_", "want a number as in C"),
        ('name: "' + "\\\\" * (MIB // 2) + '"', "want at most 32 backslashes in a row"),
        ('"a\\' * (MIB // 3), "want the end of a string in its line"),
        ("'" + '"' * MIB, "want the end of a string in its line"),
    ],
    ids=["digits", "backslashes", "quotes", "the other quotes"],
)
def test_a_configuration_of_a_mebibyte_is_refused_at_once(text: str, problem: str) -> None:
    began_s = time.process_time()
    with pytest.raises(ConfigError, match=problem):
        parse_config(text)
    assert time.process_time() - began_s < 2  # minutes, if a pattern tries a text twice


def test_strings_and_numbers_of_a_configuration_are_read_as_before() -> None:
    config = parse_config('name: "it\'s \\\\ \\"so\\"" backend: \'a "b"\' # " no string\nmax_batch_size: 8')
    assert (config.name, config.backend, config.max_batch_size) == ('it\'s \\ "so"', 'a "b"', 8)


def test_of_thousands_of_faults_fifty_are_told(digits: Contract) -> None:
    more = "".join(f'input {{ name: "x{at}" data_type: TYPE_FP32 dims: [1] }}\n' for at in range(20_000))
    began_s = time.process_time()
    faults = check_config(digits, CONFIG + more, "digits_de")
    assert time.process_time() - began_s < 20
    assert len(faults) == 51
    assert faults[-1].endswith("more faults")
