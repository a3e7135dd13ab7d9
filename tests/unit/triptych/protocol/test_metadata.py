"""Configurations made of metadata, and metadata read from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as mc

from triptych.datatypes import DATATYPES
from triptych.protocol.metadata import ModelInfo, TensorInfo, config_of, info_of

DIMS = st.lists(st.sampled_from([-1, 1, 28]), max_size=3)
TENSORS = st.builds(
    lambda name, datatype, dims, optional: TensorInfo(name, datatype, (-1, *dims), optional),
    st.text(min_size=1, max_size=9),
    st.sampled_from(DATATYPES),
    DIMS,
    st.booleans(),
)
OUTPUTS = TENSORS.map(lambda tensor: replace(tensor, optional=False))


@settings(deadline=None)
@given(
    st.lists(TENSORS, min_size=1, max_size=4), st.lists(OUTPUTS, max_size=4), st.integers(1, 999), st.sampled_from("03")
)
def test_a_configuration_tells_the_metadata(
    inputs: list[TensorInfo], outputs: list[TensorInfo], max_rows: int, version: str
) -> None:
    known = version.strip("0")
    info = ModelInfo("m", (), max_rows, inputs, outputs, version=known, contract="d" * 64 if known else "")
    assert info_of(config_of("m", info)) == info


@pytest.mark.parametrize("config", [mc.ModelConfig(), mc.ModelConfig(platform="onnxruntime_onnx", max_batch_size=4)])
def test_a_configuration_of_another_server_is_refused(config: mc.ModelConfig) -> None:
    with pytest.raises(ValueError, match="want platform 'triptych'"):
        info_of(config)
