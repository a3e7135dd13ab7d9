"""What Triton says when it refuses a load."""

from __future__ import annotations

from repository.triton import failed_versions, only
from triptych.contract.config import parse_config

# Triton 2.51, Python backend: one version with a corrupt file, one with none; shortened, white space folded.
REFUSAL = (
    "load failed for model 'sales_de': version 4 is at UNAVAILABLE state: Internal: TritonModelException: "
    "model.onnx: [ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf parsing failed. At: model.py(55): initialize "
    ";version 12 is at UNAVAILABLE state: Internal: TritonModelException: 12/model.onnx: no such file At: "
    "model.py(55): initialize ;"
)


def test_the_versions_that_failed_are_named_each_with_its_reason() -> None:
    failed = failed_versions(REFUSAL)
    assert set(failed) == {4, 12}
    assert failed[4].endswith("Protobuf parsing failed. At: model.py(55): initialize")
    assert failed[12].startswith("Internal: TritonModelException: 12/model.onnx: no such file")


def test_a_refusal_of_the_whole_model_names_none() -> None:
    assert failed_versions("failed to load 'sales_de', no version is available") == {}


def test_a_configuration_can_be_narrowed_and_stays_the_same_otherwise() -> None:
    config = parse_config('name: "m" max_batch_size: 4 version_policy { all { } }')
    narrowed = only(config, [3, 1])
    assert list(narrowed.version_policy.specific.versions) == [1, 3]
    assert (narrowed.name, narrowed.max_batch_size) == ("m", 4)
    assert config.version_policy.HasField("all")
