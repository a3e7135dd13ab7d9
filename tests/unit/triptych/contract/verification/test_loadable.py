"""A configuration that Triton refuses at a load is refused when it is published, with the line and the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import onnx_files
from tests.model_folders import publish
from tests.unit.triptych.contract.verification.digits_config import CONFIG
from triptych.contract import Contract
from triptych.contract.errors import ContractError
from triptych.contract.verification.model_folder import read_model_folder
from triptych.contract.verification.onnx_file import check_model_file
from triptych.contract.verification.triton_config import ConfigError, check_config, parse_config, served_versions
from triptych.contract.verification.version import ValidationOptions, validate_version

DATA = "data_type: TYPE_FP32 dims: [3, 32, 32] zero_data: true"


def warm_up(content: str, batch_size: int = 1) -> str:
    sample = f'inputs {{ key: "pixels" value {{ {content} }} }}' if content else ""
    return f'model_warmup [{{ name: "w" batch_size: {batch_size} {sample} }}]'


# Triton 2.51 refuses each: most with "failed to poll from model repository", which gives no reason.
REFUSED = [
    # onnxruntime_backend#148
    ("dynamic_batching { preferred_batch_size: [ 8, 65 ] }", "preferred_batch_size is 65, want 1 to max_batch_size"),
    ("dynamic_batching { preferred_batch_size: [ 0 ] }", "preferred_batch_size is 0, want 1 to max_batch_size"),
    ("dynamic_batching { priority_levels: 2 }", "default_priority_level is 0, want 1 to priority_levels, which is 2"),
    ("dynamic_batching { priority_levels: 2 default_priority_level: 5 }", "default_priority_level is 5, want 1 to"),
    (
        "dynamic_batching { priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 value {} } }",
        "priority_queue_policy is for level 3, want 1 to priority_levels, which is 2",
    ),
    (
        "dynamic_batching { priority_levels: 2 default_priority_level: 1 preserve_ordering: true }",
        "preserve_ordering forbids 2 priority_levels",
    ),
    ("instance_group [{ kind: KIND_CPU gpus: [0] }]", "an instance group of KIND_CPU has gpus [0]"),
    ('platform: "tensorrt_plan"', "platform tensorrt_plan is not that of backend onnxruntime"),
    ('platform: "of_another_backend"', "platform of_another_backend is not that of backend onnxruntime"),
    ('output [{ name: "more" dims: [2] }]', "output 'more' has no data_type"),
    ("output [{ data_type: TYPE_FP32 dims: [2] }]", "an output has no name"),
    (
        'output [{ name: "more" data_type: TYPE_FP32 dims: [2, 3] reshape { shape: [5] } }]',
        "output 'more' has dims [2, 3] and reshape [5]; want as many values in both",
    ),
    (
        'output [{ name: "more" data_type: TYPE_FP32 dims: [2, -1] reshape { shape: [-1, 2] } }]',
        "output 'more' has dims [2, -1] and reshape [-1, 2]; want as many values in both",
    ),
    (
        'input [{ name: "more" data_type: TYPE_FP32 dims: [2] format: FORMAT_NCHW optional: true }]',
        "input 'more' has dims [2], want 3 of them for FORMAT_NCHW",
    ),
    (
        'batch_input [{ kind: BATCH_ELEMENT_COUNT target_name: "n" data_type: TYPE_FP32 source_input: "gone" }]',
        "batch_input: there is no input 'gone'",
    ),
    (
        'batch_output [{ target_name: "gone" kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "pixels" }]',
        "batch_output: there is no output 'gone'",
    ),
    (
        'ensemble_scheduling { step [{ model_name: "other" output_map { key: "a" value: "b" } }] }',
        "the step of 'other' has no input_map",
    ),
    (
        'ensemble_scheduling { step [{ model_name: "other" input_map { key: "a" value: "b" } }] }',
        "the step of 'other' has no output_map",
    ),
    (
        'instance_group [{ count: 1 }] ensemble_scheduling { step [{ model_name: "other" }] }',
        "an ensemble has no instances of its own; leave instance_group out",
    ),
    (
        'ensemble_scheduling { step [{ model_name: "other" input_map { key: "a" value: "gone" } }] }',
        "'gone', which 'other' reads, is no input of the ensemble and no output of a step",
    ),
    # triton#5943, triton#3198, triton#5742
    ('ensemble_scheduling { step [{ model_name: "other" }] }', "no step writes output 'logits'"),
    (warm_up(DATA, batch_size=65), "model_warmup 'w' has batch_size 65, but max_batch_size is 64"),
    (warm_up(""), "model_warmup 'w' has no input 'pixels'"),
    (warm_up(DATA.replace("zero_data: true", "")), "model_warmup 'w': input 'pixels' has no data"),
    (warm_up(DATA.replace("FP32", "INT32")), "model_warmup 'w': input 'pixels' is TYPE_INT32, want TYPE_FP32"),
    (warm_up(DATA.replace("TYPE_FP32", "99")), "model_warmup 'w': input 'pixels' is 99, want TYPE_FP32"),
    ('input [{ name: "more" data_type: TYPE_FP32 dims: [2] format: 9 optional: true }]', "want 3 of them for 9"),
    (warm_up(DATA.replace("32, 32", "28, 28")), "input 'pixels' has dims [3, 28, 28], want [3, 32, 32]"),
]


@pytest.mark.parametrize(("more", "text"), REFUSED)
def test_what_triton_would_refuse_at_a_load_is_a_problem_with_its_line(digits: Contract, more: str, text: str) -> None:
    (problem,) = [line for line in check_config(digits, CONFIG + more, "digits_de") if text in line]
    assert problem.startswith("config.pbtxt:")


ACCEPTED = [
    "dynamic_batching { preferred_batch_size: [ 64, 1, 8 ] preserve_ordering: true }",
    "dynamic_batching { default_priority_level: 1 }",
    "dynamic_batching { priority_levels: 2 default_priority_level: 2 priority_queue_policy { key: 1 value {} } }",
    "instance_group [{ kind: KIND_GPU gpus: [0, 1] }, { count: 0 }]",
    'platform: "onnxruntime_onnx"',
    'output [{ name: "more" data_type: TYPE_FP32 dims: [2, -1, 6] reshape { shape: [2, 1, -1, 2, 3] } }]',
    'output [{ name: "more" data_type: TYPE_FP32 dims: [1] reshape { shape: [] } }]',
    'batch_input [{ kind: BATCH_ELEMENT_COUNT target_name: "n" data_type: TYPE_FP32 source_input: "pixels" }]',
    warm_up(DATA, batch_size=64),
]


@pytest.mark.parametrize("more", ACCEPTED)
def test_what_triton_loads_is_none(digits: Contract, more: str) -> None:
    assert check_config(digits, CONFIG + more, "digits_de") == []


def test_a_platform_of_another_backend_is_its_own_matter(digits: Contract) -> None:
    config = CONFIG.replace("onnxruntime", "own") + 'platform: "own_v2"'
    assert check_config(digits, config, "digits_de") == []


def test_the_latest_0_versions_are_none() -> None:
    assert served_versions(parse_config("version_policy { latest { num_versions: 0 } }"), [1, 2]) == set()
    assert served_versions(parse_config("version_policy { latest { } }"), [1, 2]) == set()


def test_an_input_that_triton_makes_of_a_batch_is_declared(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(
        onnx_files.linear(inputs=[onnx_files.value("count", onnx_files.FLOAT, ("n", 1))])
    )
    text = """backend: "onnxruntime" max_batch_size: 4
        input [{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }]
        output [{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }]"""
    (problem,) = check_model_file(parse_config(text), tmp_path)
    assert "input 'count' is not declared" in problem
    made = 'batch_input [{ kind: BATCH_ELEMENT_COUNT target_name: "count" data_type: TYPE_FP32 source_input: "x" }]'
    assert check_model_file(parse_config(text + made), tmp_path) == []


def problems(version: Path, **options: bool) -> list[str]:
    models = version.parent.parent
    try:
        validate_version(read_model_folder(version.parent, models), 1, [], ValidationOptions(**options))  # type: ignore[arg-type]
    except ContractError as error:
        return [line.removeprefix(f"{version.parent}/") for line in error.lines]
    return []


@pytest.mark.parametrize(
    ("old", "new", "file", "text"),
    [
        ('"y" data', '"y" label_filename: "labels.txt" data', "labels.txt", "label_filename is labels.txt, but"),
        (
            "version_policy",
            'model_warmup [{ name: "w" batch_size: 1 inputs { key: "x" value { '
            'data_type: TYPE_FP32 dims: 2 input_data_file: "rows" } } }] version_policy',
            "warmup/rows",
            "input_data_file is rows, but there is no file warmup/rows",
        ),
    ],
)
def test_a_file_that_the_configuration_names_has_to_be_there(
    tmp_path: Path, old: str, new: str, file: str, text: str
) -> None:
    version = publish(tmp_path, "sales_de")
    config = version.parent / "config.pbtxt"
    config.write_text(config.read_text().replace(old, new))
    (problem,) = problems(version)
    assert problem.startswith("config.pbtxt:")
    assert text in problem
    (version.parent / file).parent.mkdir(exist_ok=True)
    (version.parent / file).write_text("0")
    assert problems(version) == []


POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin", "below/model.plan", "contract.yaml"])
def test_a_pointer_of_git_lfs_is_named(tmp_path: Path, name: str) -> None:
    """netron#463, triton#7654: "Protobuf parsing failed" said nothing of it."""
    version = publish(tmp_path, "sales_de")
    (version / name).parent.mkdir(exist_ok=True)
    (version / name).write_text(POINTER)
    (problem,) = problems(version)
    assert problem.startswith(f"1/{name}:")
    assert problem.endswith("is a pointer of Git LFS, without the content; get it by git lfs pull")
    (version / "README").write_text("see " + POINTER)
    assert len(problems(version)) == 1


def test_a_configuration_may_be_a_pointer_too(tmp_path: Path) -> None:
    version = publish(tmp_path, "sales_de")
    (version.parent / "config.pbtxt").write_text(POINTER)
    with pytest.raises(ConfigError, match="config.pbtxt:1: is a pointer of Git LFS"):
        read_model_folder(version.parent, tmp_path)


def test_placeholders_of_a_store_are_not_opened(tmp_path: Path) -> None:
    version = publish(tmp_path, "sales_de")
    (version / "weights.bin").write_text(POINTER)
    assert problems(version, has_content=False) == []
