"""The model: how much of a slice is bone, its densest voxel, and how much of it is air, soft tissue and bone."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

AIR_BELOW, BONE_ABOVE = -300.0, 300.0  # Hounsfield units


def model() -> bytes:
    """The ONNX file, the same bytes each time."""
    made = helper.make_model(
        helper.make_graph(_nodes(), "ct_slices", _inputs(), _outputs(), _constants()),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="triptych",
    )
    checker.check_model(made)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def _nodes() -> list[Any]:
    node = helper.make_node
    return [
        node("Greater", ["hu", "bone_above"], ["is_bone"]),
        node("Cast", ["is_bone"], ["bone"], to=TensorProto.FLOAT),
        node("Less", ["hu", "air_below"], ["is_air"]),
        node("Cast", ["is_air"], ["air"], to=TensorProto.FLOAT),
        node("ReduceSum", ["bone", "row_and_column"], ["bone_voxels"], keepdims=0),
        node("Unsqueeze", ["bone_voxels", "last"], ["bone_column"]),
        node("Mul", ["bone_column", "voxel_ml"], ["bone_ml"]),
        node("ReduceMax", ["hu"], ["peak"], axes=[1, 2], keepdims=0),
        node("Unsqueeze", ["peak", "last"], ["peak_hu"]),
        node("ReduceMean", ["bone"], ["bone_share"], axes=[1, 2], keepdims=0),
        node("ReduceMean", ["air"], ["air_share"], axes=[1, 2], keepdims=0),
        node("Sub", ["one", "bone_share"], ["not_bone"]),
        node("Sub", ["not_bone", "air_share"], ["soft_share"]),
        node("Unsqueeze", ["air_share", "last"], ["air_column"]),
        node("Unsqueeze", ["soft_share", "last"], ["soft_column"]),
        node("Unsqueeze", ["bone_share", "last"], ["bone_share_column"]),
        node("Concat", ["air_column", "soft_column", "bone_share_column"], ["tissue"], axis=1),
    ]


def _inputs() -> list[Any]:
    value = helper.make_tensor_value_info
    return [value("hu", TensorProto.FLOAT, ["n", "y", "x"]), value("voxel_ml", TensorProto.FLOAT, ["n", 1])]


def _outputs() -> list[Any]:
    sizes = {"bone_ml": 1, "peak_hu": 1, "tissue": 3}
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in sizes.items()]


def _constants() -> list[Any]:
    values: dict[str, Any] = {
        "bone_above": np.float32(BONE_ABOVE),
        "air_below": np.float32(AIR_BELOW),
        "one": np.float32(1),
        "row_and_column": np.array([1, 2], np.int64),
        "last": np.array([1], np.int64),
    }
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
