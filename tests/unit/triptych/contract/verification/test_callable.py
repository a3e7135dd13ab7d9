"""A model that the stack cannot call is refused when it is published, not at a request (triton#4994)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.triptych.contract.verification.digits_config import CONFIG
from triptych.contract import Contract
from triptych.contract.verification.callable import uncallable
from triptych.contract.verification.triton_config import check_config, missing_file, model_file, parse_config


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("model_transaction_policy { decoupled: true }", "a decoupled model answers with a stream"),
        ("sequence_batching {}", "sequence_batching wants requests with a sequence id"),
        ("sequence_batching { oldest {} }", "sequence_batching wants requests with a sequence id"),
        ("instance_group [{ passive: true }]", "every instance group is passive"),
        ('platform: "ensemble"', "an ensemble has no ensemble_scheduling"),
        ("ensemble_scheduling {}", "ensemble_scheduling has no step"),
        ('ensemble_scheduling { step [{ model_name: "gone" }] }', "the model repository has no model 'gone'"),
        ('ensemble_scheduling { step [{ model_name: "digits_de" }] }', "'digits_de' is a step of itself"),
        ('default_model_filename: "../../x"', "default_model_filename is '../../x'"),
        ('default_model_filename: "/etc/passwd"', "default_model_filename is '/etc/passwd'"),
        ('cc_model_filenames { key: "8.0" value: "a/../../x" }', "cc_model_filenames is 'a/../../x'"),
        ('output [{ name: "more" data_type: TYPE_FP32 dims: [1] label_filename: "../x" }]', "label_filename is"),
        ('input [{ name: "pixels" data_type: TYPE_FP32 dims: [3, 32, 32] }]', "input 'pixels' is declared twice"),
        ('input [{ name: "none" data_type: TYPE_FP32 optional: true }]', "input 'none' has no dims"),
        ('output [{ name: "none" data_type: TYPE_FP32 dims: [0] }]', "output 'none' has dims [0]"),
        ('output [{ name: "s" data_type: TYPE_INT32 dims: [1] is_shape_tensor: true }]', "'s' has is_shape_tensor"),
    ],
)
def test_what_cannot_be_called_is_a_problem_with_its_line(digits: Contract, more: str, text: str) -> None:
    config = CONFIG + more
    (problem,) = [line for line in check_config(digits, config, "digits_de", models={"digits_de"}) if text in line]
    assert problem.startswith("config.pbtxt:")
    assert not problem.startswith("config.pbtxt:1: default")


def test_a_negative_batch_size_is_a_problem(digits: Contract) -> None:
    problems = check_config(digits, CONFIG.replace("max_batch_size: 64", "max_batch_size: -1"), "digits_de")
    assert any("max_batch_size is -1, want 0 or more" in problem for problem in problems)


@pytest.mark.parametrize(
    "more",
    [
        "model_transaction_policy { decoupled: false }",
        "response_cache { enable: true }",
        "dynamic_batching { max_queue_delay_microseconds: 100 }",
        "instance_group [{ passive: true }, { count: 1 }]",
        'parameters { key: "x" value { string_value: "y" } }',
        'ensemble_scheduling { step [{ model_name: "other" input_map { key: "a" value: "pixels" } '
        'output_map { key: "b" value: "logits" } }] }',
        'default_model_filename: "onnx/model.onnx"',
    ],
)
def test_what_can_be_called_is_none(digits: Contract, more: str) -> None:
    assert check_config(digits, CONFIG + more, "digits_de", models={"digits_de", "other"}) == []


def test_without_the_other_models_an_ensemble_is_not_checked() -> None:
    assert list(uncallable(parse_config('ensemble_scheduling { step [{ model_name: "gone" }] }'))) == []


def test_the_model_file_follows_an_older_platform_too() -> None:
    assert model_file(parse_config('platform: "onnxruntime_onnx"')) == "model.onnx"
    assert model_file(parse_config('platform: "ensemble"')) is None


def test_a_file_outside_of_the_model_repository_is_not_read(tmp_path: Path) -> None:
    version = tmp_path / "models" / "m" / "1"
    version.mkdir(parents=True)
    (tmp_path / "weights").write_text("w")
    (version / "model.onnx").symlink_to(tmp_path / "weights")
    config = parse_config('backend: "onnxruntime"')
    assert missing_file(config, version, tmp_path / "models") == "1/model.onnx: is a link out of the model repository"
    assert missing_file(parse_config('default_model_filename: "../../../weights"'), version, tmp_path / "models") == ""
    assert missing_file(parse_config('backend: "python"'), version, tmp_path / "models") == "1/model.py: no such file"
