"""Triton's messages for refused loads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from controller.placement.predictors.triton_client import TritonClient, _one_line, only, version_reason
from triptych.contract.verification.triton_config import parse_config

# Triton 2.51, Python backend: one version with a corrupt file, one with none; shortened, white space folded.
REFUSAL = (
    "load failed for model 'sales_de': version 4 is at UNAVAILABLE state: Internal: TritonModelException: "
    "model.onnx: [ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf parsing failed. At: model.py(55): initialize "
    ";version 12 is at UNAVAILABLE state: Internal: TritonModelException: 12/model.onnx: no such file At: "
    "model.py(55): initialize ;"
)


def test_of_several_versions_that_failed_each_has_its_own_reason() -> None:
    assert version_reason(REFUSAL, 4).startswith("Internal: TritonModelException: model.onnx: [ONNXRuntimeError]")
    assert version_reason(REFUSAL, 4).endswith("Protobuf parsing failed. At: model.py(55): initialize")
    assert version_reason(REFUSAL, 12).startswith("Internal: TritonModelException: 12/model.onnx: no such file")


@pytest.mark.parametrize("version", [1, 2, 44, 112])
def test_a_version_that_is_not_named_gets_the_whole_refusal(version: int) -> None:
    assert version_reason(REFUSAL, version) == REFUSAL


@pytest.mark.parametrize(
    "text", ["failed to load 'sales_de', no version is available", "Triton did not finish within 60 s", ""]
)
def test_a_refusal_of_the_whole_model_is_the_reason_of_every_version(text: str) -> None:
    assert version_reason(text, 4) == text


reasons = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), min_size=1).filter(
    lambda text: text.strip() and " is at " not in text
)


@given(st.dictionaries(st.integers(1, 10**17), reasons, min_size=1, max_size=4))
def test_every_message_of_triton_about_a_version_is_recognized(said: dict[int, str]) -> None:
    """Messages also contain semicolons and colons and have several lines, in the one line of the log."""
    states = "".join(f"version {number} is at UNAVAILABLE state:\n {text} ;" for number, text in said.items())
    refusal = f"load failed for model 'sales_de': {states}"
    for number, text in said.items():
        assert version_reason(_one_line(refusal), number) == " ".join(text.split())


def test_a_long_reason_of_one_version_does_not_hide_that_of_another() -> None:
    states = f"version 4 is at UNAVAILABLE state: {'x' * 2000} ;version 12 is at UNAVAILABLE state: no such file ;"
    refusal = _one_line(f"load failed for model 'sales_de': {states}")
    assert version_reason(refusal, 12) == "no such file"


def test_a_configuration_can_be_narrowed_and_stays_the_same_otherwise() -> None:
    config = parse_config('name: "m" max_batch_size: 4 version_policy { all { } }')
    narrowed = only(config, {3, 1})
    assert list(narrowed.version_policy.specific.versions) == [1, 3]
    assert (narrowed.name, narrowed.max_batch_size) == ("m", 4)
    assert config.version_policy.HasField("all")


def test_versions_of_an_earlier_choice_do_not_stay_in_a_narrowed_configuration() -> None:
    config = parse_config('name: "m" version_policy { specific { versions: [1, 2, 3] } }')
    assert list(only(config, [2]).version_policy.specific.versions) == [2]
    assert list(config.version_policy.specific.versions) == [1, 2, 3]


async def test_versions_that_are_no_numbers_are_left_out_of_what_triton_reports() -> None:
    """A model's own code can answer in place of Triton."""

    async def call(method: str, _request: Any, _call: Any) -> Any:
        versions = ("1", "", "x", "01", "-1", "9" * 5_000, "\u0663")
        if method == "ModelStatistics":
            return pb.ModelStatisticsResponse(model_stats=[pb.ModelStatistics(name="m", version=v) for v in versions])
        entry = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(models=[entry(name="m", version=v, state="READY") for v in versions])

    triton = TritonClient("127.0.0.1:1")
    triton._upstream.call = call  # type: ignore[method-assign,assignment]
    assert (await triton.index(whole=True)).ready == {("m", 1)}
    assert list(await triton.counts()) == [("m", 1)]
    await triton.close()
